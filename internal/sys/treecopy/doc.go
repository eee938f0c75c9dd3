// Package treecopy copies and compares folders on this machine, file by file: owners, modes, times, extended attributes, hard
// links, holes, devices and pipes are the same on the other side. Somebody may be writing in the source meanwhile: everything
// is opened below its parent's descriptor and no link is followed, so swapped paths do not lead out; what vanishes is left out.
package treecopy
