// tesserabench appends to a new log through Tessera's POSIX driver and prints its rates as one JSON object.
//
// Usage: tesserabench -dir DIRECTORY -entries N -clients N -size BYTES. Each client adds an entry and waits until it
// is sequenced; then all wait until a published checkpoint covers the last. Settings are the driver's defaults but
// for the checkpoint interval, which is the shortest that it takes.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"
)

const shortestInterval = 100 * time.Millisecond

type figures struct {
	Entries         int     `json:"entries"`
	Clients         int     `json:"clients"`
	SequencedPerS   float64 `json:"sequenced_per_s"`
	SequencedP50Ms  float64 `json:"sequenced_p50_ms"`
	SequencedP99Ms  float64 `json:"sequenced_p99_ms"`
	PublishedPerS   float64 `json:"published_per_s"`
	PublishedLoneMs float64 `json:"published_lone_ms"`
}

func main() {
	directory := flag.String("dir", "", "folder of the log")
	entries := flag.Int("entries", 20000, "entries to append")
	clients := flag.Int("clients", 64, "clients that append at the same time")
	size := flag.Int("size", 300, "bytes of an entry")
	flag.Parse()
	ctx := context.Background()
	secret, _ := must2(note.GenerateKey(rand.Reader, "bench.example/log"))
	signer := must(note.NewSigner(secret))
	driver := must(posix.New(ctx, posix.Config{Path: *directory}))
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(shortestInterval))
	check(err)
	awaiter := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 10*time.Millisecond)

	took := make([]time.Duration, *entries)
	var next atomic.Int64
	var last tessera.IndexFuture
	var guard sync.Mutex
	var group sync.WaitGroup
	begun := time.Now()
	for range *clients {
		group.Go(func() {
			for number := next.Add(1) - 1; number < int64(*entries); number = next.Add(1) - 1 {
				started := time.Now()
				future := appender.Add(ctx, newEntry(*size))
				must(future())
				took[number] = time.Since(started)
				guard.Lock()
				last = future
				guard.Unlock()
			}
		})
	}
	group.Wait()
	sequenced := time.Since(begun)
	_, _ = must2(awaiter.Await(ctx, last))
	published := time.Since(begun)
	lone := time.Now()
	_, _ = must2(awaiter.Await(ctx, appender.Add(ctx, newEntry(*size))))
	alone := time.Since(lone)
	check(shutdown(ctx))

	slices.Sort(took)
	check(json.NewEncoder(os.Stdout).Encode(figures{
		Entries:         *entries,
		Clients:         *clients,
		SequencedPerS:   float64(*entries) / sequenced.Seconds(),
		SequencedP50Ms:  milliseconds(took[len(took)/2]),
		SequencedP99Ms:  milliseconds(took[len(took)*99/100]),
		PublishedPerS:   float64(*entries) / published.Seconds(),
		PublishedLoneMs: milliseconds(alone),
	}))
}

func newEntry(size int) *tessera.Entry {
	data := make([]byte, size)
	_, err := rand.Read(data)
	check(err)
	return tessera.NewEntry(data)
}

func milliseconds(took time.Duration) float64 {
	return float64(took.Microseconds()) / 1000
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func must2[A, B any](first A, second B, err error) (A, B) {
	check(err)
	return first, second
}

func check(err error) {
	if err != nil {
		klog.Exit(err)
	}
}
