module github.com/mayflydb/mayfly/bench/codec

go 1.26.0

replace github.com/mayflydb/mayfly => ../..

require (
	github.com/Sereal/Sereal/Go/sereal v0.0.0-20231009093132-b9187f1a92c6
	github.com/klauspost/compress v1.20.3
	github.com/mayflydb/mayfly v0.0.0-00010101000000-000000000000
	github.com/vmihailenco/msgpack/v5 v5.4.1
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/golang/snappy v0.0.4 // indirect
	github.com/vmihailenco/tagparser/v2 v2.0.0 // indirect
)
