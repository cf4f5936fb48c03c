// Judges of notes and proofs that nobody of this project wrote: golang.org/x/mod/sumdb and github.com/transparency-dev/merkle.
//
// Reads one JSON object, checks all that it holds, prints how many checks it made; the first one that fails ends it with its words.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"encoding/base64"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type inclusion struct {
	Index uint64   `json:"index"`
	Leaf  []byte   `json:"leaf"`
	Proof [][]byte `json:"proof"`
	Note  string   `json:"note"`
}

type consistency struct {
	Old   string   `json:"old"`
	New   string   `json:"new"`
	Proof [][]byte `json:"proof"`
}

type asked struct {
	Key         string        `json:"key"`
	Inclusion   []inclusion   `json:"inclusion"`
	Consistency []consistency `json:"consistency"`
}

type checkpoint struct {
	size uint64
	root []byte
}

func main() {
	var told asked
	must(json.NewDecoder(os.Stdin).Decode(&told))
	verifier, err := note.NewVerifier(told.Key)
	must(err)
	known := note.VerifierList(verifier)
	hasher := rfc6962.DefaultHasher
	for _, each := range told.Inclusion {
		head := opened(each.Note, known, verifier.Name())
		leaf := hasher.HashLeaf(each.Leaf)
		must(proof.VerifyInclusion(hasher, each.Index, head.size, leaf, each.Proof, head.root))
		must(tlog.CheckRecord(hashes(each.Proof), int64(head.size), hash(head.root), int64(each.Index), tlog.RecordHash(each.Leaf)))
	}
	for _, each := range told.Consistency {
		before, after := opened(each.Old, known, verifier.Name()), opened(each.New, known, verifier.Name())
		must(proof.VerifyConsistency(hasher, before.size, after.size, each.Proof, before.root, after.root))
		must(tlog.CheckTree(hashes(each.Proof), int64(after.size), hash(after.root), int64(before.size), hash(before.root)))
	}
	fmt.Println(len(told.Inclusion) + len(told.Consistency))
}

func opened(text string, known note.Verifiers, origin string) checkpoint {
	signed, err := note.Open([]byte(text), known)
	must(err)
	lines := strings.Split(signed.Text, "\n")
	if len(lines) != 4 || lines[0] != origin {
		must(fmt.Errorf("not a checkpoint of %s", origin))
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	must(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	must(err)
	return checkpoint{size, root}
}

func hash(data []byte) tlog.Hash {
	var made tlog.Hash
	copy(made[:], data)
	return made
}

func hashes(data [][]byte) []tlog.Hash {
	made := make([]tlog.Hash, 0, len(data))
	for _, each := range data {
		made = append(made, hash(each))
	}
	return made
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
