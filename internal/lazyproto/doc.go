// Package lazyproto is what gantryd and gantry-lazy say to each other over a UNIX socket of packets
// (SOCK_SEQPACKET): one JSON object per packet, with descriptors where it says so.
//
//	gantryd                                        gantry-lazy
//	{"op":"list"}                               →
//	                                            ←  {"version":…,"held":[…]}
//	{"op":"serve","layer":…,"place":…,…}        →  reads the TOC, mounts
//	                                            ←  {"note":…} + /dev/fuse, the blob's file
//	{"op":"copy","digest":…}                    →
//	                                            ←  {"note":…} + the same two
//	{"op":"adopt","layer":…,"note":…} + the two →  goes on with a session that another gantry-lazy has served
//	{"op":"release","digest":…}                 →  unmounts; who uses the layer goes on
//	{"op":"leave"}                              →  ends at once, and leaves its sessions to the next one
//	                                            ←  {"event":"whole","digest":…}, and the other events, at any time
//
// gantryd keeps copies of the two descriptors of each layer. So the kernel's side of a session lives while either process
// does, and whichever was killed takes up its work where it was. Credentials go along with requests, and nowhere else.
package lazyproto
