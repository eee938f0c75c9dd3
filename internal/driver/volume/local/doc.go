// Package local is the volume driver "local": a folder per volume below the data
// root, optionally with a mount of its own, filled from an image at its first use.
//
// What lies below <data root>/volumes:
//
//	<name>/_data             the content
//	<name>/_creating         the volume's record may not be committed yet
//	<name>/_filling          an image's content on its way into _data
//	.removing-<n>/<name>     a volume on its way out
//
// A volume is two things, a folder here and a record elsewhere. The folder is on
// disk before the record is, and goes out of sight before the record goes; the marks
// tell the next start which half of a change is missing. Sweep deletes nothing without
// such a mark: a folder whose record is missing is kept.
package local
