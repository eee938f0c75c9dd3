// Package local keeps volumes as folders below <data root>/volumes/<name>/_data.
// A volume with the options type, device and o is a mount made at first use.
package local
