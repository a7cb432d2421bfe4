"""Jobs in shards: the folder of a job, and the engines whose processes compute its shards."""

from adaptformer.base import environment

environment.prepare()
