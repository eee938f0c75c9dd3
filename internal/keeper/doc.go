// Package keeper is the engine of gantry-keeper: the parent of every container
// process, for all containers at once. It makes processes, owns their pipes and
// terminals, spools and logs their output, reaps them, writes the exit record to
// disk and then tells gantryd. It has no policy, no store, no HTTP.
//
// # Output
//
//	process ──FIFO──splice──► spool file ──► log writer ──► log file
//	         (terminal: master ─splice─► FIFO)   └────────► attached clients (in gantryd)
//
// The process has its FIFO open for reading and writing: it never sees
// SIGPIPE, whoever dies, and what it wrote waits there for the next keeper. A
// splice takes bytes out of the FIFO and appends them to the spool in one system call;
// which stream and time they belong to is in the slot (a small mapped file) before. So after a
// kill the spool file's size tells what was taken, and the slot how to frame it.
//
// The log writer is a cursor on the spool. Formatting depends on frames only, so
// after a kill it goes on from the last committed pair of (spool position, log
// offset) and writes the same bytes to the same place again: nothing lost, nothing doubled.
//
// # Threads
//
// One goroutine waits in epoll for all pipes, terminals and pidfds and splices; it
// never touches a disk other than the exec root's tmpfs. A handful of log workers with shared
// buffers format and write. Each connection of gantryd has a reader and a
// writer of its own, so that a slow gantryd holds nobody.
//
// # Who does what
//
//	eventLoop   waits for descriptors and runs what is posted; events hands on what it sees
//	table       knows the processes, by name and by number
//	pump        moves output into the spools
//	retention   decides how much of the spools stays
//	logWorkers  write the logs; logWriter makes one of its spool, into a logFile
//	reaper      learns how processes ended and records it
//	exits       drains and tells, after the record
//	launcher    makes processes
//	remover     takes forgotten ones away
//	recovery    takes over those of a former keeper
//	anchorLink  gives the anchor copies of descriptors
//	service     answers requests; clients are the connections, inflight the launches under way
//
// # Locks
//
// Taken in this order, never against it: table.mu, proc.mu, clients.mu, client.mu. Behind all of these come
// anchorLink.mu, eventLoop.mu and boundedLog.mu; only the last is taken while another of the three is
// held. inflight.mu stands alone. What is the loop's needs no lock and is touched by its goroutine only.
//
// # Recovery
//
// A new keeper — after a crash, or by exec in an upgrade — finds everything in the
// exec root and in the descriptors that the anchor gives back. There is no other path.
package keeper
