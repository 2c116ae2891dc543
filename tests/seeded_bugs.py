#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""seeded_bugs.py - do the tests bite?

Applies one bug at a time to a copy of the source, builds the tests that ought to
notice, runs them in order, and says which one went red. A bug that all of them
pass is a survivor, and makes this script fail.

    tests/seeded_bugs.py WORKDIR [NAME...]    only the bugs of these names
    tests/seeded_bugs.py --apply              only see that each can be applied, and compiles

A test that crashes is red, too, and so is one that takes much longer than it did with
the unchanged source, which must be green first.
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PATIENCE = 3600  # seconds: any test of the unchanged source ends within it
TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# name, file, old text (must occur exactly once), new text, tests that should notice
BUGS = [
    ("segments are long whatever is spare", "lib/region.c",
     """	while (k > 8 && (k > most ||
			 (k > total / (32 * participants) &&
			  (k * spare > SPARE_MAX || k * spare + total * slot > SMALL_REGION))))
""",
     """	while (k > 8 && k > most + 0 * spare)
""", "lane"),
    ("a queue of few items has short segments", "lib/region.c",
     "total / 8 > few ? total / 8 : few", "total / 8 + 0 * few", "lane"),
    ("nobody is counted near the limit", "lib/participant.c",
     """	seats_raise(q, i);
""", """	(void)seats_raise;
""", "settle"),
    ("a participant takes whatever number the region has for granted", "lib/admit.c",
     """	if (seats > q->geo.max_participants)
		seats = q->geo.max_participants;
""", "", "settle"),
    ("one who looks and goes keeps another from being woken", "lib/wait.c",
     """		if (then) /* another waker has just come by */
			return false;
""",
     """		return false;
""", "points"),
    ("a wake-up of this moment seems one of the future", "lib/wait.c",
     """	uint64_t then = atomic_load_explicit(woken, memory_order_seq_cst), now; /* BATON */

	POINT("wake:due"); /* Dead here: as before. */
	/* Read after the stamp: one of this moment is not to seem one of the future. */
	now = sys_monotonic_ns();
""",
     """	uint64_t now = sys_monotonic_ns(), then;

	POINT("wake:due"); /* Dead here: as before. */
	then = atomic_load_explicit(woken, memory_order_seq_cst); /* BATON */
""", "points"),
    ("a child of a handler goes on with the call", "lib/wait.c",
     """		if (unlikely(!q->map)) /* a child, of the fork of a signal handler */
			return -ECHILD;
""",
     """""", "identity"),
    ("a lane is called empty whatever came into it", "lib/handle.h",
     """	    v->nr_watched || /* TICKET */
	    atomic_load_explicit(&v->lane->tail, memory_order_acquire) != v->start)
""",
     """	    v->nr_watched || !lane_quiet(v))
""", "lane sched"),
    ("a lane is called empty though items came back", "lib/handle.h",
     """	if (atomic_load_explicit(&v->lane->gen, memory_order_acquire) != v->gen ||
	    v->nr_watched""",
     """	if (v->nr_watched""", "sched"),
    ("a lane is called empty though a ticket is watched", "lib/handle.h",
     """	    v->nr_watched || /* TICKET */
""",
     """	    /* TICKET */
""", "sched"),
    ("head stays behind in a lane that was found empty", "lib/handle.h",
     """		head_raise(v->lane, v->start);
		v->idle = v->start;
""",
     """		v->idle = v->start;
""", "lane"),
    ("a batch goes down the lanes without asking", "lib/queue.c",
     """ || !lane_idle(view_of(q, i)))
			return got;
""",
     """)
			return got;
""", "lane sched"),
    ("one item is taken from below without asking", "lib/queue.c",
     """		if (next >= q->usable_lanes || !lane_idle(v))
""",
     """		if (next >= q->usable_lanes)
""", "lane sched"),
    ("an empty lane is waited at though others are to be looked at", "lib/take.c",
     """	int rounds = alone && v->hot ? SPIN_FOR_NEXT : 0, i;
""",
     """	int rounds = alone | v->hot ? SPIN_FOR_NEXT : 0, i;
""", "cost"),
    ("a window that has grown takes over a hole", "lib/fast.h",
     """	    atomic_load_explicit(&v->pop_at.descriptors[spread(q, i)].word,
				 memory_order_acquire) != v->pop.full ||
""",
     """	    (atomic_load_explicit(&v->pop_at.descriptors[spread(q, i)].word,
				  memory_order_acquire) != v->pop.full && ++v->start == 0) ||
""", "lane sched linear"),
    ("an item that came back is passed by one behind the window", "lib/fast.h",
     """ ||
	    atomic_load_explicit(&v->lane->gen, memory_order_acquire) != v->gen) /* MARK */
""",
     """)
""", "sched"),
    ("a ring that descriptors do not hear", "lib/bell.c",
     """	sys_futex_wake(&w->rings, INT_MAX, UINT32_MAX);
	sys_touch(q->map->fd);
""",
     """	sys_futex_wake(&w->rings, INT_MAX, UINT32_MAX);
""", "poll"),
    ("rings are not counted", "lib/bell.c",
     """	atomic_fetch_add_explicit(&w->rings, 1, memory_order_release);
""",
     """""", "any"),
    ("a bell forgets a lane whose items came back", "lib/take.c",
     """	v->long_takes += r == 1;
""",
     """""", "poll"),
    ("a slice without inotify grows with every look", "lib/bell.c",
     """	} else if (due && b->slice_ns < SLICE_NS) {
""",
     """	} else if (b->slice_ns < SLICE_NS) {
""", "poll"),
    ("a wake-up for another lane is kept", "lib/wait.c",
     """		if (e == 0 && r != -EAGAIN)
""",
     """		if (e == 0 && r != -EAGAIN && (r < 0 || !(lanes & (lanes - 1))))
""", "sched"),
    ("a wake-up for an item too long is kept", "lib/wait.c",
     """		if (e == 0 && r != -EAGAIN)
""",
     """		if (e == 0 && r > 0)
""", "wait"),
    ("who was woken for one of many wakes nobody", "lib/wait.c",
     """		if (e == 0 && r != -EAGAIN)
""",
     """		if (e == 0 && r != -EAGAIN && (r < 0 || lanes & (lanes - 1)))
""", "sched wait"),
    ("who was woken for one of many places wakes nobody", "lib/wait.c",
     """side == WAIT_ROOM ? lane_room(q, lane) :""",
     """side == WAIT_ROOM ? 0 :""", "sched wait"),
    ("who was woken in vain leaves others to his wake-up", "lib/wait.c",
     """		wake_looked(q, side, lanes);
		r = attempt(arg);
		if (e == 0 && r != -EAGAIN)
			pass_on""",
     """		r = attempt(arg);
		if (r != -EAGAIN)
			wake_looked(q, side, lanes);
		if (e == 0 && r != -EAGAIN)
			pass_on""", "sched"),
    ("who goes to sleep leaves others to a wake-up that found nobody", "lib/wait.c",
     """WAIT_EPOCH);

		wake_looked(q, side, lanes);
""",
     """WAIT_EPOCH);

""", "sched wait"),
    ("a wake-up under way counts for ever", "lib/wait.c",
     """	while (!then || now - then >= WOKEN_NS) {
""",
     """	while (!then) {
""", "points"),
    ("who adopts a record leaves its move to later", "lib/recover.c",
     """		close_named(q, &c, r.push);
		c.deferred = false; /* what is left of it becomes ours */
""",
     """""", "sched"),
    ("no second look after the bits are set", "lib/bell.c",
     """	r = attempt(arg);
	if (r == -EAGAIN)
""",
     """	r = -EAGAIN;
	if (r == -EAGAIN)
""", "poll"),
    ("a ring for another lane is drained", "lib/bell.c",
     """		more |= b->quiet;
""",
     """""", "poll"),
    ("a ring is told by bits that others set again", "lib/bell.c",
     """	if (rings != b->rings) {""",
     """	if (b->quiet & ~(wakeup_of(q)->side[side].word >> WAIT_POLLED_SHIFT)) {""", "poll"),
    ("a lane that has more is owed no look", "lib/bell.c",
     """	b->owed = (b->owed | more) & ~lanes;
""",
     """	b->owed = more & ~lanes;
""", "poll"),
    ("a lane is owed a look for ever", "lib/bell.c",
     """	if (b->owed && ++b->looks > 2 * q->geo.nr_lanes)
		b->owed = 0;
""",
     """""", "poll"),
    ("the timer of a bell is not wound up", "lib/bell.c",
     """		wind(b, b->slice_ns, now);
""",
     """		b->set_ns = now;
""", "poll"),
    ("a descriptor is drained that may be another's", "lib/bell.c",
     """	if (!intact(b))
		return -EAGAIN;
""",
     """""", "poll"),
    ("a look takes an item of no bytes", "lib/take.c",
     """len > q->geo.item_size || room == LOOK)) {
""",
     """len > q->geo.item_size || (room == LOOK && len))) {
""", "any"),
    ("publish before payload", "lib/lane.h",
     """		copy_item(payload, items[i].iov_base, items[i].iov_len);
		publish(q, p, t + (unsigned)i, items[i].iov_len);
""",
     """		publish(q, p, t + (unsigned)i, items[i].iov_len);
		copy_item(payload, items[i].iov_base, items[i].iov_len);
""", "kill sched stress"),
    ("publication not a release", "lib/lane.h",
     """	atomic_store_explicit(&d->word, full, memory_order_release);
""",
     """	atomic_store_explicit(&d->word, full, memory_order_relaxed);
""", "tsan/threads"),
    ("record cleared before publication", "lib/fast.h",
     """	publish_word(p->descriptor, v->push.full, len);
	record_set(q, RECORD_NONE, 0, 0, 0);
""",
     """	record_set(q, RECORD_NONE, 0, 0, 0);
	publish_word(p->descriptor, v->push.full, len);
""", "points kill"),
    ("ticket drawn before the record says so", "lib/fast.h",
     """	record_set(q, RECORD_PENDING, lane, 1, t);
	POINT("push_one:pending"); /* as push:pending */
	t = atomic_fetch_add_explicit(&v->lane->tail, 1, memory_order_acq_rel); /* TICKET */
""",
     """	POINT("push_one:pending"); /* as push:pending */
	t = atomic_fetch_add_explicit(&v->lane->tail, 1, memory_order_acq_rel); /* TICKET */
	record_set(q, RECORD_PENDING, lane, 1, t);
""", "points kill"),
    ("recovery forgets what was reserved", "lib/recover.c",
     """	close_named(q, c, r.push);
	close_named(q, c, r.reserved);
""",
     """	close_named(q, c, r.push);
""", "lease kill"),
    ("the record forgets a ticket before it counts as reserved", "lib/push.c",
     """	reserved_set(q, RECORD_EXACT, lane, t);
	POINT("reserve:both"); /* Dead here: recovery PADs it, once. */
	record_set(q, RECORD_NONE, 0, 0, 0);
""",
     """	record_set(q, RECORD_NONE, 0, 0, 0);
	POINT("reserve:both"); /* Dead here: recovery PADs it, once. */
	reserved_set(q, RECORD_EXACT, lane, t);
""", "points kill"),
    ("head passes an unmarked hole", "lib/take.c",
     """			segment_mark(q, lane, p.segment);
			marked = true;
""",
     """			marked = true;
""", "lane points sched kill"),
    ("a hole is not read again before it is passed", "lib/take.c",
     """		if (c == OPEN_FULL) {
			r = -EAGAIN;
			break;
		}
		if (c == OPEN_HOLE) {
""",
     """		if (c == OPEN_HOLE) {
""", "sched linear stress"),
    ("EMPTY without a second look", "lib/take.c",
     """		if (unlikely(sc.holes || sc.uninstalled) && !empty_confirm(q, lane, &sc))
			continue;
""", "", "sched linear"),
    ("DONE before the copy", "lib/queue.c",
     """	copy_inline(item->iov_base, t->payload, t->len);
	item->iov_len = t->len;
	if (info)
		info_fill(q, t, info);
	lane_finish(q, t);
""",
     """	lane_finish(q, t);
	copy_inline(item->iov_base, t->payload, t->len);
	item->iov_len = t->len;
	if (info)
		info_fill(q, t, info);
""", "sched stress limit"),
    ("a segment is recycled under its holder", "lib/segment.c",
     """		if (unlikely(w != done) && slot_classify(w, inc) != CLOSED_FOR_GOOD)
			return false;
	}
""",
     """		if (unlikely(w != done) && slot_classify(w, inc) < CLOSED_TAKEN)
			return false;
	}
""", "lease points kill"),
    ("recovery without re-validation", "lib/recover.c",
     """	return participant_state_of(q, c->i) == participant_word(c->inc, PARTICIPANT_LIVE);
""",
     """	(void)q;
	(void)c;
	return true;
""", "sched kill"),
    ("recovery trusts a bare pid", "lib/recover.c",
     """		    !participant_dead(q, inc))
			continue;
		if""",
     """		    !({
			    extern int kill(int, int);

			    kill((int)participant_of(q, i)->pid, 0) < 0 && errno == ESRCH;
		    }))
			continue;
		if""", "identity"),
    ("who is stopped is dead", "lib/recover.c",
     """		    !participant_dead(q, inc))
			continue;
		if""",
     """		    !(participant_dead(q, inc) || ({
		       extern int snprintf(char *, size_t, const char *, ...);
		       char path[64], text[256] = "";
		       int fd;

		       snprintf(path, sizeof path, "/proc/%u/stat", participant_of(q, i)->pid);
		       fd = sys_open(path, 0, 0);
		       sys_read_at(fd, text, sizeof text - 1, 0);
		       sys_close(fd);
		       strstr(text, ") T ") != NULL;
	       })))
			continue;
		if""", "life"),
    ("a lock of the process", "lib/sys.c",
     "result(fcntl(fd, F_OFD_SETLK, &fl))",
     "result(fcntl(fd, F_SETLK, &fl))", "identity"),
    ("the mapping is inherited by fork", "lib/sys.c",
     "	if (madvise(p, bytes, MADV_DONTFORK) < 0) {",
     "	if (0 && madvise(p, bytes, MADV_DONTFORK) < 0) {", "identity"),
    ("descriptors are inherited by exec", "lib/sys.c",
     "flags | O_CLOEXEC | O_NOCTTY", "flags | O_NOCTTY", "identity"),
    ("a descriptor is trusted", "lib/participant.c",
     "token_byte(token)) == 0 && mapping_intact(q->map);",
     "token_byte(token)) == 0;", "life points"),
    ("whoever cannot tell looks for the dead", "lib/queue.c",
     """	return sys_fstat(m->fd, &st) == 0 && st.st_dev == m->dev && st.st_ino == m->ino;
""",
     """	return sys_fstat(m->fd, &st) == 0;
""", "life"),
    ("open is a cancellation point", "lib/queue.h",
     "pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);",
     "pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);", "cancel"),
    ("a sleep is a cancellation point", "lib/wait.c",
     """		e = sys_futex_wait(word_of(q, side), w, lanes, until);
""",
     """		e = sys_futex_wait(word_of(q, side), w, lanes, until);
		pthread_testcancel();
""", "cancel"),
    ("the dead are looked for every 2.5 s", "lib/recover.c",
     "#define PROBE_NS (25 * UINT64_C(1000000))",
     "#define PROBE_NS (2500 * UINT64_C(1000000))", "life"),
    ("a handle that is closed stays attached", "lib/participant.c",
     """	if (lane_settle(q)) {
		POINT("leave:settled");""",
     """	if (0 && lane_settle(q)) {
		POINT("leave:settled");""", "identity"),
    ("a variable of a call is static", "lib/take.c",
     """		struct scan sc = { .from = max_ticket(h, v->start), .to = v->t0 };
		uint64_t tail;
""",
     """		static struct scan sc;
		uint64_t tail;

		sc = (struct scan){ .from = max_ticket(h, v->start), .to = v->t0 };
""", "signal"),
    ("a reservation outlives its handle", "lib/participant.c",
     """	lane_abort(q);
""", "	q->busy &= ~(uint32_t)BUSY_RESERVED;\n", "life calls"),
    ("the handle is inherited by fork", "lib/sys.c",
     """	if (madvise(p, bytes, MADV_WIPEONFORK) < 0) {""",
     """	if (0 && madvise(p, bytes, MADV_WIPEONFORK) < 0) {""", "procs identity"),
    ("items of the dead come back unmarked", "lib/recover.c",
     """			lane_mark(q, lane, s); /* head may pass it at any moment */
""", "", "points lease kill sched"),
    ("items before tickets in recovery", "lib/recover.c",
     """	close_tickets(q, &c);
	return_items(q, &c);
""",
     """	return_items(q, &c);
	close_tickets(q, &c);
""", "points sched kill"),
    ("a moved item is FULL before its source is DONE", "lib/push.c",
     """	lane_finish(q, t); /* MOVE: decided */
	POINT("move:decided"); /* Dead here: recovery makes the slot FULL. */
	/* PUBLISH -> scan */
	atomic_store_explicit(&d->word, slot_word(p.inc, t->attempts, 0, SLOT_FULL),
			      memory_order_release);
""",
     """	atomic_store_explicit(&d->word, slot_word(p.inc, t->attempts, 0, SLOT_FULL),
			      memory_order_release);
	POINT("move:decided"); /* Dead here: recovery makes the slot FULL. */
	lane_finish(q, t); /* MOVE: decided */
""", "points kill"),
    ("a requeued item is not marked", "lib/take.c",
     """	lane_mark(q, t->lane, t->segment); /* head may have passed it */
""", "", "lease sched"),
    ("close keeps the leases", "lib/participant.c",
     """	if (q->nr_leases)
		recover_own(q);
""", "", "lease"),
    ("no look between arming and sleeping", "lib/wait.c",
     """		uint32_t w = wait_announce(q, side, lanes, WAIT_EPOCH);

		wake_looked(q, side, lanes);
		r = attempt(arg);
		if (r != -EAGAIN)
			break;
""",
     """		uint32_t w = wait_announce(q, side, lanes, WAIT_EPOCH);

		wake_looked(q, side, lanes);
""", "sched wait"),
    ("armed bits are cleared while others sleep", "lib/wait.c",
     """	if (sys_futex_wake(word, n, bit) >= n)
		return;
""",
     """	sys_futex_wake(word, n, bit);
""", "sched wait"),
    ("open tickets below head do not count", "lib/admit.c",
     """	*below = watch_open(q, lane, *g);
""",
     """	*below = 0;
""", "lane limit lease"),
    ("tickets over the limit are not closed", "lib/push.c",
     """	if (unlikely(admitted < n) &&
	    lane_pad(q, lane, t + (unsigned)admitted, (unsigned)(n - admitted), NULL, NULL) < 0)
		leave_unsettled(q, lane, t, n);
	else
		record_set""",
     """	if (1)
		record_set""", "limit sched"),
    ("a lost installation keeps its segment", "lib/segment.c",
     """						     memory_order_relaxed)) {
		segment_put(q, s, inc);
		return 0; /* somebody else installed it */
	}
""",
     """						     memory_order_relaxed)) {
		return 0; /* somebody else installed it */
	}
""", "sched storm stress limit"),
    ("one item more than fits", "lib/admit.c",
     "	uint64_t cap = q->geo.capacity[lane], g, below, pads, pad_max, live;\n",
     "	uint64_t cap = q->geo.capacity[lane] + 1, g, below, pads, pad_max, live;\n",
     "linear limit"),
    ("full one item early", "lib/admit.c",
     "		if (live >= cap) {\n", "		if (live + (cap > 2) >= cap) {\n", "linear limit"),
    ("a failed delivery is not counted", "lib/recover.c",
     "slot_word(slot_tag(w), attempts + 1, 0, SLOT_FULL);",
     "slot_word(slot_tag(w), attempts, 0, SLOT_FULL);", "linear lease"),
    ("an unnamed ticket of the dead is forgotten when it is old", "lib/recover.c",
     "	close_older(q, c, &u);\n", "	(void)close_older;\n", "settle"),
    ("opening does not look for the dead", "lib/queue.c",
     """		recover_all(*out, &(*out)->opened);
""",
     """		(void)out;
""", "lease"),
    ("a move that fails speaks for the pushes", "lib/push.c",
     """		q->refused = refused; /* of the caller's pushes; this is a pop */
""",
     """		(void)refused;
""", "lease"),
    ("head is not led past an item", "lib/segment.c",
     """		head = lane_make_way(q, lane, oldest);
""", """		(void)q;
""", "lease"),
    ("a lease of another queue is taken", "lib/inplace.c",
     """	    lease->info.attempts < 1 || lease->info.attempts > SLOT_ATTEMPTS_MAX + 1 ||
	    lease->data != payload_of(q, slot_index(q, (uint32_t)lease->private_[2],
						    lease->private_[0])))
""",
     """	    lease->info.attempts < 1 || lease->info.attempts > SLOT_ATTEMPTS_MAX + 1)
""", "lease"),
    ("nobody adopts a record of the dead", "lib/participant.c",
     """	if (r == -EUSERS && recover_adopt(q, lock)) {
""",
     """	if (r == -EUSERS && !q && recover_adopt(q, lock)) {
""", "settle"),
    ("who joins installs segments", "lib/segment.c",
     """	if (!q->self) /* it recovers in order to join: nothing may be owned by it yet */
		return -ENOBUFS;
""", "", "settle"),
]


def kill_session(sid):
    """Kill the processes of a session: a test puts its children into other groups."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                if int(f.read().rpartition(")")[2].split()[3]) == sid:
                    os.kill(int(pid), signal.SIGKILL)
        except (OSError, IndexError):
            pass  # it has gone


def run(args, cwd=None, timeout=600):
    """Status and output; what does not end is killed with all its children."""
    p = subprocess.Popen(args, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         stdin=subprocess.DEVNULL, start_new_session=True, text=True,
                         errors="replace",
                         env={**os.environ, "CK_TAP_LOG_FILE_NAME": "-", "SHMQ_LONG": ""})
    try:
        out, _ = p.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_session(p.pid)
        out, _ = p.communicate()
        return "timeout", out
    return p.returncode, out


class Tree:
    def __init__(self, work):
        self.src = os.path.join(work, "src")
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        shutil.copytree(TOP, self.src, ignore=shutil.ignore_patterns("build", "build-*", ".git"))
        self.builds = {}
        self.took = {}  # seconds of each test without a bug
        for name, options in (("plain", ["-Dbuildtype=debugoptimized"]),
                              ("tsan", ["-Dbuildtype=debugoptimized", "-Db_sanitize=thread"])):
            self.builds[name] = os.path.join(work, name)
            status, out = run(["meson", "setup", self.builds[name], self.src,
                               "-Dtests=enabled", *options])
            if status:
                sys.exit(out)

    def test(self, name):
        """None if the test is green, else what happened; tsan/NAME is another build."""
        build, _, test = name.rpartition("/")
        build = self.builds[build or "plain"]
        target = "tests/test_" + test
        status, out = run(["ninja", "-C", build, target])
        if status:
            sys.exit(f"{target} does not build:\n{out[-3000:]}")
        begin = time.monotonic()
        # The machine may have other work by now: three times as long as without a bug.
        limit = 3 * self.took[name] + 60 if name in self.took else PATIENCE
        status, out = run([os.path.join(build, target)], timeout=limit)
        if status == 0:
            self.took.setdefault(name, time.monotonic() - begin)
            return None
        red = [line for line in out.splitlines() if line.startswith("not ok")]
        return "no end" if status == "timeout" else red[0][:70] if red else f"status {status}"

    def exists(self, name):
        path = os.path.join(self.src, "tests")
        name = name.rpartition("/")[2]
        return any(os.path.exists(os.path.join(path, *p)) for p in
                   ([f"test_{name}.c"], [name, f"test_{name}.c"]))


def compiles(tree, file):
    """What the compiler says against a file of the library; nothing if it takes it."""
    args = ["cc", "-x", "c", "-std=gnu11", "-fsyntax-only", "-w", "-D_GNU_SOURCE",
            '-DSHMQ_VERSION=""', "-I" + os.path.join(tree, "include"), os.path.join(tree, file)]
    return subprocess.run(args, stderr=subprocess.PIPE, text=True).stderr


def apply_all():
    """Does the source have what each bug replaces, and does it compile with the bug?"""
    lost = 0
    with tempfile.TemporaryDirectory() as tree:
        for part in ("lib", "include"):
            shutil.copytree(os.path.join(TOP, part), os.path.join(tree, part))
        for name, file, old, new, *_ in BUGS:
            path = os.path.join(tree, file)
            with open(path) as f:
                text = f.read()
            times = text.count(old)
            wrong = f"{file} has the old text {times} times" if times != 1 else ""
            if not wrong:
                with open(path, "w") as f:
                    f.write(text.replace(old, new))
                wrong = compiles(tree, file)
                with open(path, "w") as f:
                    f.write(text)
            if wrong:
                print(f"{name}: {wrong}")
                lost += 1
    print(f"{len(BUGS)} seeded bugs, {lost} cannot be applied")
    return 1 if lost else 0


def main():
    if sys.argv[1:] == ["--apply"]:
        return apply_all()
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    if apply_all():
        return 1
    tree = Tree(os.path.abspath(sys.argv[1]))
    bugs = [b for b in BUGS if len(sys.argv) == 2 or b[0] in sys.argv[2:]]
    needed = sorted({t for b in bugs for t in b[4].split() if tree.exists(t)})
    for t in needed:
        red = tree.test(t)
        if red:
            sys.exit(f"{t} is red without a bug: {red}")
        print(f"{t} is green without a bug ({tree.took[t]:.0f} s)", flush=True)
    survivors = 0
    for name, file, old, new, tests in bugs:
        begin = time.monotonic()
        path = os.path.join(tree.src, file)
        with open(path) as f:
            text = f.read()
        with open(path, "w") as f:
            f.write(text.replace(old, new))
        verdict = "SURVIVED"
        for t in tests.split():
            red = tree.test(t) if tree.exists(t) else None
            if red:
                verdict = f"{t}: {red}"
                break
        survivors += verdict == "SURVIVED"
        with open(path, "w") as f:
            f.write(text)
        print(f"{name:48} {verdict}  ({time.monotonic() - begin:.0f} s)", flush=True)
    print(f"{len(bugs)} seeded bugs, {len(bugs) - survivors} caught, {survivors} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
