// Package server holds tests of the private registry as a process: users, tokens and rights, quotas, other registries' images,
// the web page in a browser, kills at any time.
package server
