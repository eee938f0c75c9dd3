// Package nofile remembers the soft limit of open descriptors that the process was
// started with. Go raises it to the hard limit when package syscall is initialised, and
// tells nobody what it was; a container without a limit of its own is to get the original.
//
// The package imports nothing: the language initialises packages in the order of their
// import paths once their imports are ready, so this one comes before syscall.
package nofile
