package initproc

const (
	newfstatatNumber   = 79
	seccompNumber      = 277
	schedSetattrNumber = 274
	readlinkatNumber   = 78
	setnsNumber        = 268
)
