// Package netproto is what gantryd and gantry-net say to each other over a UNIX
// stream socket: one JSON object per line, a request by gantryd, then its answer.
//
//	gantryd                                     gantry-net
//	{"op":"reserve","owner":…,"wants":[…]}  →   binds all ports or none
//	                                        ←   {"ports":[…]} or {"taken":…}
//	{"op":"release","owner":…}              →   closes what owner holds
//	{"op":"keep","owners":[…]}              →   closes what nobody of these holds
//
// Reserving again what the owner holds already changes nothing: a restarted gantryd
// may repeat everything it knows.
package netproto

import "net/netip"

// MaxLine bounds a message, in bytes.
const MaxLine = 4 << 20

// Request is a message to gantry-net.
type Request struct {
	Op     string   `json:"op"` // "reserve", "release", "keep"
	Owner  string   `json:"owner,omitempty"`
	Owners []string `json:"owners,omitempty"`
	Wants  []Want   `json:"wants,omitempty"`
}

// Want is a host port to be held, and where its IPv6 connections go.
type Want struct {
	Proto  string         `json:"proto"` // "tcp" or "udp"
	Host   netip.Addr     `json:"host"`  // unspecified: every address of the host
	Port   uint16         `json:"port"`  // 0: any of the ephemeral range
	End    uint16         `json:"end"`   // end of a range, or 0
	Target netip.AddrPort `json:"target"`
	// IPv6 asks to forward connections to the port over IPv6, for Host unspecified.
	IPv6 bool `json:"ipv6,omitempty"`
}

// Answer is what gantry-net replies.
type Answer struct {
	Ports []uint16 `json:"ports,omitempty"` // as bound, one per Want
	Taken *Taken   `json:"taken,omitempty"`
	Error string   `json:"error,omitempty"`
}

// Taken says which Want failed and who is in the way.
type Taken struct {
	Index int    `json:"index"`
	Port  uint16 `json:"port"`
	Owner string `json:"owner,omitempty"` // a container of this engine
	Cause string `json:"cause,omitempty"` // otherwise the kernel's words
}
