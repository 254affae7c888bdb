"""What a study may say: typed settings, read from YAML and validated strictly."""
