// Package networks holds the use cases of networks: which exist, which container is
// on which, and how a container's sandbox is put together from the drivers'
// endpoints and published ports. It decides and remembers; the drivers behind
// deps.go do the work.
//
// Two rooms are below all use cases: the catalog (which networks exist) and the members
// (which containers are on them). Over these, one group of use cases serves the API's
// network objects, the other the containers' sandboxes.
package networks
