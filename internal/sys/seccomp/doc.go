// Package seccomp compiles OCI seccomp profiles to the kernel's filter programs,
// without libseccomp.
//
// A filter is one decision tree per architecture: the kernel tries every system
// call number against a new filter (for its cache of always allowed ones), so short paths make
// loading cheap. Differences to a plain list that matter:
//
//   - rules of one system call apply in order, those with conditions before the one without;
//   - several conditions on one argument within a rule are alternatives, as in runc;
//   - a system call newer than every one in the profile gets ENOSYS rather than
//     the default action, so that a C library falls back to what the profile knows.
package seccomp
