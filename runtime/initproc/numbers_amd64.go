package initproc

const (
	newfstatatNumber   = 262
	seccompNumber      = 317
	schedSetattrNumber = 314
	readlinkatNumber   = 267
	setnsNumber        = 308
	keyctlNumber       = 250
	memfdNumber        = 319
	execveatNumber     = 322
)
