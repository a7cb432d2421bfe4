"""The Python API: what `import adaptformer as af` offers. Each name is imported when it is first used."""
