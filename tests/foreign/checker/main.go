// checker verifies a static tlog-tiles directory with golang.org/x/mod/sumdb alone.
//
// Usage: checker DIRECTORY VERIFIER-KEY. Prints "sound: N entries" and ends with 0, or says what is wrong and
// ends with 1. It opens the checkpoint with the note package, computes every hash of the tree from the bundles of
// entries with the tlog package, compares each tile with what tlog cuts out of that tree, and proves records and
// older trees through the tiles as a client of the log would.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight  = 8
	bundleWidth = 1 << tileHeight
	probes      = 64
)

func main() {
	if len(os.Args) != 3 {
		fail("usage: checker DIRECTORY VERIFIER-KEY")
	}
	directory := os.Args[1]
	tree := openCheckpoint(directory, os.Args[2])
	hashes, records := hashEntries(directory, tree.N)
	stored := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, 0, len(indexes))
		for _, index := range indexes {
			found = append(found, hashes[index])
		}
		return found, nil
	})
	if root := must(tlog.TreeHash(tree.N, stored)); root != tree.Hash {
		fail("the root of the entries is %v, that of the checkpoint %v", root, tree.Hash)
	}
	for _, tile := range tlog.NewTiles(tileHeight, 0, tree.N) {
		expected := must(tlog.ReadTileData(tile, stored))
		if !bytes.Equal(must(os.ReadFile(tileFile(directory, tile))), expected) {
			fail("%s is not the tile of these entries", tile.Path())
		}
	}
	proveThroughTiles(directory, tree, records)
	fmt.Printf("sound: %d entries\n", tree.N)
}

func openCheckpoint(directory, key string) tlog.Tree {
	verifier := must(note.NewVerifier(key))
	raw := must(os.ReadFile(filepath.Join(directory, "checkpoint")))
	opened := must(note.Open(raw, note.VerifierList(verifier)))
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		fail("the checkpoint is not of the log %s", verifier.Name())
	}
	return tlog.Tree{N: must(strconv.ParseInt(lines[1], 10, 64)), Hash: must(tlog.ParseHash(lines[2]))}
}

// hashEntries returns all stored hashes of the tree in tlog's order, and the hashes of the records.
func hashEntries(directory string, size int64) (hashes, records []tlog.Hash) {
	stored := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, 0, len(indexes))
		for _, index := range indexes {
			found = append(found, hashes[index])
		}
		return found, nil
	})
	for first := int64(0); first < size; first += bundleWidth {
		width := min(size-first, bundleWidth)
		tile := tlog.Tile{H: tileHeight, L: -1, N: first / bundleWidth, W: int(width)}
		raw := must(os.ReadFile(tileFile(directory, tile)))
		for at := int64(0); at < width; at++ {
			if len(raw) < 2 || len(raw)-2 < int(binary.BigEndian.Uint16(raw)) {
				fail("%s ends early", tile.Path())
			}
			end := 2 + int(binary.BigEndian.Uint16(raw))
			record := tlog.RecordHash(raw[2:end])
			raw = raw[end:]
			records = append(records, record)
			hashes = append(hashes, must(tlog.StoredHashesForRecordHash(first+at, record, stored))...)
		}
		if len(raw) != 0 {
			fail("%s is too long", tile.Path())
		}
	}
	return hashes, records
}

// proveThroughTiles proves some records and older trees by tiles that tlog authenticates against the root.
func proveThroughTiles(directory string, tree tlog.Tree, records []tlog.Hash) {
	reader := tlog.TileHashReader(tree, tileReader(directory))
	for probe := int64(0); probe < probes && tree.N > 0; probe++ {
		index := probe * (tree.N - 1) / (probes - 1)
		proof := must(tlog.ProveRecord(tree.N, index, reader))
		check(tlog.CheckRecord(proof, tree.N, tree.Hash, index, records[index]))
		older := tlog.Tree{N: index + 1, Hash: must(tlog.TreeHash(index+1, reader))}
		consistent := must(tlog.ProveTree(tree.N, older.N, reader))
		check(tlog.CheckTree(consistent, tree.N, tree.Hash, older.N, older.Hash))
	}
}

type tileReader string

func (tileReader) Height() int { return tileHeight }

func (directory tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	contents := make([][]byte, 0, len(tiles))
	for _, tile := range tiles {
		content, err := os.ReadFile(tileFile(string(directory), tile))
		if err != nil {
			return nil, err
		}
		contents = append(contents, content)
	}
	return contents, nil
}

func (tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

// tileFile returns where a tile lies. C2SP leaves out the height that x/mod's paths name, and calls data entries.
func tileFile(directory string, tile tlog.Tile) string {
	path := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight))
	path = strings.Replace(path, "data/", "entries/", 1)
	return filepath.Join(directory, "tile", filepath.FromSlash(path))
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}
