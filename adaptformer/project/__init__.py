"""Projects: folders with params, stages, flows and tasks that use the installed package. `adaptformer init` makes one.

Their files are those in the root of the library's checkout, which is such a project itself; a wheel holds a copy.
"""
