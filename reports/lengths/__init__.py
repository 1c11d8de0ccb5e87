"""What `lmaas train` and `lmaas predict` say of output lengths: a file a section."""
