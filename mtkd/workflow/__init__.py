"""Run a study: jobs, notebooks, profiles, doctor, and new studies."""
