"""Tables, figures and the study's page."""
