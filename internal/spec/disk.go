package spec

// DiskUse is what the engine's data root takes on disk, as du counts: allocated blocks, a file with several names once.
type DiskUse struct {
	Root  string `json:"Root"`
	Total int64  `json:"Total"` // bytes
	// Free is what its file system has left for the engine, in bytes.
	Free  int64      `json:"Free"`
	Parts []DiskPart `json:"Parts"`
	// Spared is what layers do not take a second time, as blobs, in bytes.
	Spared int64 `json:"Spared"`
}

// DiskPart is one kind of what lies in the data root.
type DiskPart struct {
	What  string `json:"What"`
	Where string `json:"Where"` // below the data root
	Count int    `json:"Count"` // of the things: layers, containers, files
	Bytes int64  `json:"Bytes"`
}
