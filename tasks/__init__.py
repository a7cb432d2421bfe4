"""Thin Prefect tasks around the library: the stages, registration, promotion, and the limits they wait for."""
