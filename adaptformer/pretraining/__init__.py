"""Pretraining of a small backbone as a masked autoencoder on unlabelled images."""
