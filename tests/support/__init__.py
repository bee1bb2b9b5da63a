"""What tests are made with: an application, a host, a provider, models, processes, conditions."""
