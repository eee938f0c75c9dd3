// Package dockerroot reads the data root of a Docker engine, which may be running: its images, with layers made again byte for
// byte, its volumes, its containers' definitions and its networks. It writes nothing there and takes no lock.
//
//	image/<driver>/repositories.json           names → image IDs
//	image/<driver>/imagedb/content/sha256/     configurations; the name is the digest, and the image's ID
//	image/<driver>/layerdb/sha256/<chain ID>/  diff (diff ID), parent, cache-id, tar-split.json.gz
//	image/<driver>/layerdb/mounts/<container>/ mount-id: the writable layer's cache ID
//	<driver>/…<cache-id>…                      the layers' files
//	volumes/<name>/_data, opts.json            and metadata.db (bbolt): drivers, options, labels
//	containers/<id>/                           config.v2.json, hostconfig.json
//	network/files/local-kv.db (bbolt)          networks
//
// What is damaged is told beside what is not: every list comes with the problems met on the way.
package dockerroot
