package doctor

import (
	"strings"
	"unicode"
)

// words are what applications call their keys, by what it means: the default prefixes of Laravel, PHP's session
// handler, Rails, Django, Spring, Express, Resque, BullMQ, Celery, rq, asynq.
var words = map[string]Class{
	"session": Sessions, "sessions": Sessions, "sess": Sessions,
	"cache": Cache, "caches": Cache, "cached": Cache,
	"queue": Queue, "queues": Queue, "resque": Queue, "bull": Queue, "celery": Queue, "kombu": Queue, "rq": Queue, "asynq": Queue, "sidekiq": Queue, "horizon": Queue, "jobs": Queue,
}

// What is looked at of a name: what follows is an id.
const (
	mostBytes = 64
	mostWords = 4
)

// classOf is what a key is, by the first word of its name that says so, else by its type; "": it does not show.
func classOf(key, kind string, expires bool) Class {
	name := key[:min(len(key), mostBytes)]
	parts := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	for _, w := range parts[:min(len(parts), mostWords)] {
		if c, ok := words[w]; ok {
			return c
		}
	}
	if kind == "stream" || kind == "list" && !expires {
		return Queue
	}
	return ""
}

// shown is a key as far as it may be shown: its ids and tokens are nobody's business.
func shown(key string) string {
	name := key[:min(len(key), mostBytes)]
	cut := strings.IndexFunc(name, unicode.IsDigit)
	if i := strings.LastIndexAny(name, ":/|"); i >= 0 && (cut < 0 || i < cut) {
		cut = i + 1
	}
	if cut <= 0 {
		cut = min(len(name), 8)
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, strings.ToValidUTF8(name[:cut], "?")) + "…"
}
