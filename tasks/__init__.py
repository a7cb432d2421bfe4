"""Thin Prefect tasks around the library: the stages, registration, promotion, and the limits they wait for."""

from adaptformer.base import environment

environment.prepare()
