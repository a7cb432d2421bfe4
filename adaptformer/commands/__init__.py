"""The commands of `adaptformer`, each imported only when it runs."""
