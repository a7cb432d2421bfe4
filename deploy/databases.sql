-- PostgreSQL's image runs this once, when its data folder is new: it makes `mlflow` itself.
CREATE DATABASE prefect;
