// Package tarfs moves file trees between tar streams and directories without
// ever leaving the tree it was given. Every path is resolved by openat2 with
// RESOLVE_IN_ROOT from a descriptor of the tree's root and every object is then
// handled through its parent's descriptor, so neither "../", absolute names nor
// symbolic links (also those that somebody swaps meanwhile) reach the host.
//
// It knows three ways to treat the whiteouts of image layers (see Whiteouts),
// extended attributes, hard links, sparse files and device nodes. Contents are
// streamed: memory does not grow with the size of files.
//
// Unpacking has a room for each job: parents finds and makes the folders that entries go into, deletions does what
// whiteouts ask for, maker makes entries, attributes gives them owner, extended attributes and mode, and dirTimes
// keeps the times of directories for the end. The extractor hands each entry to them.
package tarfs
