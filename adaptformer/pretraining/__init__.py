"""Making a small backbone: a masked autoencoder on unlabelled images."""
