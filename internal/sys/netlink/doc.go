// Package netlink is the only caller of the kernel's routing socket and of network
// namespace system calls: making namespaces, bridges and veth pairs, addresses,
// routes and net sysctls. It carries no policy: names, addresses and order are the
// callers'.
package netlink
