// Package atomicfile replaces small files so that whoever reads them, at any time and after any crash, finds the old
// content or the new one.
package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
)

// Write replaces a file. A process that dies leaves one of the two; after a power loss the newest may be gone.
func Write(path string, text []byte, mode os.FileMode) error { return write(path, text, mode, false) }

// WriteSync replaces a file that is on disk, with its name, when it returns nil.
func WriteSync(path string, text []byte, mode os.FileMode) error {
	if err := write(path, text, mode, true); err != nil {
		return err
	}
	return Sync(filepath.Dir(path))
}

func write(path string, text []byte, mode os.FileMode, sync bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode))
	if sync {
		err = errors.Join(err, f.Sync())
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// Sync has a file's content, or the names in a directory, survive a power loss.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
