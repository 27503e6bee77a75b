package elasticache

import (
	"fmt"
	"time"

	"understudy/backup"
)

// retryDaily is the pause after a daily snapshot that failed, within the window.
const retryDaily = 10 * time.Minute

const day = 24 * time.Hour

// takeDaily takes each group's snapshot of the day in its window, and deletes those that are older than is wanted.
func (s *Service) takeDaily() {
	if s.opts.Backups == nil {
		return
	}
	for _, r := range s.groups.All() {
		if s.dueDaily(r) {
			id := fmt.Sprintf("automatic.%s-%s", r.ID, s.now().Format("2006-01-02-15-04"))
			if _, err := s.take(backup.Request{ID: id, Group: r.ID, Kind: backup.KindAutomatic, Attributes: s.attributesOf(r, "")}); err != nil {
				s.log.Warn("the snapshot of the day is not begun: it is tried again", "group", r.ID, "error", err)
			}
		}
	}
	s.pruneDaily()
}

// dueDaily reports whether the group's snapshot of the day is to be taken now.
func (s *Service) dueDaily(r record) bool {
	begins, within := windowAt(r.Window, s.now())
	if r.Retention == 0 || !within || s.mayBeTaken(r) != nil {
		return false
	}
	for _, b := range s.opts.Backups.Archive.List(r.ID) {
		if b.Kind != backup.KindAutomatic || b.Created.Before(begins) {
			continue
		}
		if b.State != backup.StateFailed || s.now().Sub(b.Created) < retryDaily {
			return false
		}
	}
	return true
}

// windowAt says whether now is within a window "hh:mm-hh:mm", and when that began.
func windowAt(window string, now time.Time) (begins time.Time, within bool) {
	var h1, m1, h2, m2 int
	if n, err := fmt.Sscanf(window, "%02d:%02d-%02d:%02d", &h1, &m1, &h2, &m2); err != nil || n != 4 {
		return time.Time{}, false
	}
	length := time.Duration((h2*60+m2-h1*60-m1+24*60)%(24*60)) * time.Minute
	begins = time.Date(now.Year(), now.Month(), now.Day(), h1, m1, 0, 0, time.UTC)
	if now.Before(begins) {
		begins = begins.Add(-day)
	}
	return begins, now.Before(begins.Add(length))
}

// pruneDaily deletes automatic snapshots that are older than their group keeps them; of a group that is gone, or
// keeps none any more, than it did when they were taken. The newest one of a group stays: days without a new one
// must not end in none.
func (s *Service) pruneDaily() {
	newest, all := map[string]string{}, s.opts.Backups.Archive.List("")
	for _, b := range all { // oldest first
		if b.Kind == backup.KindAutomatic && b.State == backup.StateAvailable {
			newest[b.Group] = b.ID
		}
	}
	for _, b := range all {
		keep := attributesIn(b).Retention
		if r, ok := s.groups.Get(b.Group); ok && r.Retention > 0 {
			keep = r.Retention
		}
		if b.Kind != backup.KindAutomatic || !b.Whole() || newest[b.Group] == b.ID || s.now().Sub(b.Created) < time.Duration(keep)*day {
			continue
		}
		if err := s.opts.Backups.Archive.Delete(b.ID); err != nil {
			s.log.Warn("an old snapshot stays: its deletion is tried again", "snapshot", b.ID, "error", err)
		}
	}
}
