// Package networks holds the use cases of networks: which exist, which container is
// on which, and how a container's sandbox is put together from the drivers'
// endpoints and published ports. It decides and remembers; the drivers behind
// deps.go do the work.
package networks
