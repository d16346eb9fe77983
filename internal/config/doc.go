// Package config knows every setting of mayfly: its name, its default, what it
// means, and which values it takes. It joins what a TOML file, the environment
// and the command line say, in rising order of precedence, tells where each
// value came from, and reports all faults at once, as sentences that say what
// to write instead.
//
// A setting has one name everywhere, "section.key":
//
//	file         [node]
//	             listen = "127.0.0.1:7070"
//	environment  MAYFLY_NODE__LISTEN=127.0.0.1:7070
//	flag         --set node.listen=127.0.0.1:7070   (and --listen where a command offers it)
//
// A property of a declared bucket is named "bucket.<name>.<property>", or
// "bucket.<type>/<name>.<property>" outside the bucket type "default".
//
// The package reads no file, no environment and no clock: [Load] is given
// their contents.
package config
