"""External storage: results go to a store of the caller's own.

A request's `store` is read by `targets`, with the connectors that the server's own file names;
`store` sends the result there, by `s3`, `azure` or `rackspace`. It needs the extra `store`.
"""
