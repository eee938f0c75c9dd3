// Package names is the DNS server of containers on user-defined networks. It runs in gantry-net, is told by gantryd who
// is on which network (internal/netproto), and goes on answering while gantryd is away.
//
//	container asks 127.0.0.11:53 ── redirected inside its namespace ──► its own two sockets, held here
//	   │
//	   ├─ a name or an address of a network it is on   answered at once from the table
//	   ├─ anything else, and it may ask outside        asked upstream, from the container's namespace or the host's
//	   └─ anything else, and it may not                NXDOMAIN at once: nothing but our names exists there
//
// One thread looks at all containers' UDP sockets in turn and takes a bounded number of questions from each, so that
// a flood from one container costs the others a batch's time and no more. Questions for upstream servers have a
// goroutine each; how many there are is bounded for each container and for all (forwarder). Nothing is kept of an
// answer: caching is left to the servers that are asked.
package names
