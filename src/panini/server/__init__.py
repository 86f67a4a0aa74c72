"""`panini serve`: a local web page and an HTTP API.

`settings` says what a server allows, and `app` assembles it: `routes`, `results` and `site` have the routes, `guard`
checks every request, `uploads` reads bodies, `jobs` admits photos, `worker` runs one task at a time on one network,
`job` is the work on one photo, `pictures` encodes what is shown. The page is plain HTML, CSS and ES modules in `page/`.
"""
