/* An open-loop HTTP/1.1 load generator. Requests are due at random times (a Poisson process) whatever the server
 * does. One goes out on a connection that is free; one that finds none waits, and everything counts from when it
 * was due, so nothing that the server holds up is left out. One thread, epoll, keep-alive, any IPv4 address.
 *
 *   cc -O2 -o openload openload.c -lm
 *   ./openload -P 8000 -u /v2/models/m/infer -b body.json -c 2000 -p calm:150:2 -p surge:3000:5 -p after:150:3
 *
 *   -h HOST  IPv4 address (127.0.0.1)    -P PORT    -u PATH
 *   -b FILE  a POST body, repeatable: requests go round all of them (none: GET)
 *   -H 'K: V'  a further header, repeatable
 *   -p NAME:RATE:SECONDS  a phase, repeatable, one after the other; RATE in requests a second. cN for RATE is a
 *      closed loop of N requests in flight, which measures capacity with the same accounting; after anything
 *      but a 200 the place of that request stays empty for 20 ms, else a server that refuses would do only that
 *   -k NAME:WEIGHT:HEADER  a class of requests, repeatable; each request is of one by chance. HEADER may be empty
 *   -c N  connections, all opened before the first phase, each from a loopback address of its own where the
 *      target is loopback: to a server each is another client. They are used in turn. One that the server
 *      closes is opened anew when a request finds no other that is free
 *   -D MS  good is an answer with status 200, complete within MS of when the request was due (100)
 *   -Q MS  a request that is still not sent MS after it was due is not sent any more (as -D)
 *   -T MS  the client gives up MS after a request was due, and closes the connection (1000)
 *   -r N  further attempts, each at once, after anything but a 200; they say `x-retry-attempt: 1` and so on, and
 *      each counts from its own start
 *   -s SEED
 *
 * SIGINT and SIGTERM end it early; the report comes all the same. Prints one JSON object:
 *   start_s (of the first phase, on the monotonic clock), connections, connects (from the first phase on),
 *   connect_failures, cpu_s (its own), turn_ms_max (longest turn of its loop), windows (how each 100 ms
 *   went, by when requests were due: attempts, good, status 200, other statuses),
 *   phases: name, rate, in_flight, start_s, seconds, lag_ms_max and lag_late (how late the generator itself came
 *   to a request, at most and how often by over 5 ms: where that is much, the generator was the limit), and
 *   classes, the last of which, "*", is all of them together: arrivals (first attempts), retries (further ones),
 *   sent, good, late (200, not in time), rungs (200 with a header x-penstock-rung that is not empty), given_up,
 *   broken (connection closed or reset in mid-request), unsent, statuses, p50_ms, p99_ms, max_ms (of 200s, from
 *   when they were due), refusal_p50_ms, refusal_p99_ms (of other statuses).
 * Each attempt is counted in the phase in which it was due. attempts = sent + unsent; sent = good + late + other
 * statuses + given_up + broken. Exit status 2 when it could not run.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum {
  PHASES_MAX = 32,
  CLASSES_MAX = 8,
  ATTEMPTS_MAX = 16,
  BODIES_MAX = 1024,
  BODY_BYTES_MAX = 16 << 20,
  HEADER_BYTES_MAX = 8192,
  ANSWER_BYTES_START = 2048,
  ANSWER_BYTES_MAX = 16 << 20,
  EVENTS_MAX = 64, /* a turn of the loop stays well under a millisecond, so sends are not late */
  CONNECTING_MAX = 64,
  REFUSED_PAUSE_NS = 20 * 1000 * 1000,
  CONNECT_PAUSE_NS = 10 * 1000 * 1000,
  WARM_S_MAX = 30,
  RING = 1 << 20,
  BUCKET_NS = 20 * 1000,
  BUCKETS = 100 * 1000,
  WINDOW_NS = 100 * 1000 * 1000,
  WINDOWS_MAX = 3600 * 10,
  STATUSES = 600,
  LATE_NS = 5 * 1000 * 1000,
};

#define MS 1000000ull
#define S 1000000000ull

typedef struct { char *data; size_t bytes; } Message;

/* One attempt at a request. */
typedef struct {
  uint64_t due_ns;
  uint8_t phase, class, attempt;
  uint16_t body;
} Attempt;

typedef enum { CLOSED, CONNECTING, FREE, BUSY } State;

typedef struct {
  int fd;
  State state;
  Attempt attempt;
  const Message *message;
  size_t sent, got, room, need; /* need: the answer's whole length, 0 while its head is incomplete */
  size_t chunk;                 /* where the next chunk of a chunked answer begins, 0 if it is not chunked */
  uint32_t asked;               /* requests so far: tells this one from the next on the same connection */
  int status, close_after, rung, in_ring;
  char *answer;
} Conn;

typedef struct {
  uint64_t arrivals, retries, sent, good, late, rungs, given_up, broken, unsent, statuses[STATUSES];
  uint32_t *answered, *refused; /* histograms */
} Tally;

typedef struct {
  const char *name;
  double rate, seconds;
  int in_flight; /* of a closed loop, else 0 */
  uint64_t start_ns, end_ns, lag_ns_max, lag_late;
  Tally tallies[CLASSES_MAX];
} Phase;

typedef struct { const char *name, *header; double weight; } Class;
typedef struct { uint32_t attempts, good, answered, refused; } Window;
typedef struct { uint64_t due_ns; uint32_t conn, asked; } Watch;

static Phase phases[PHASES_MAX];
static Class classes[CLASSES_MAX];
static Message *messages; /* by class, attempt and body */
static Conn *conns;
static Window *windows;
static Attempt *waiting;    /* rings: head and tail only ever grow */
static Watch *watched;
static uint64_t *pauses;    /* a ring too: when a place of a closed loop may be filled again */
static uint32_t *free_ring, *closed_stack;
static uint64_t waiting_head, waiting_tail, watched_head, watched_tail, free_head, free_tail;
static uint64_t pauses_head, pauses_tail;
static int phase_count, class_count, body_count, attempts = 1, conn_count, closed_count, connecting, busy, opened;
static int current; /* the phase */
static uint64_t good_ns = 100 * MS, unsent_ns, give_up_ns = 1000 * MS, next_due_ns, connect_after_ns;
static uint64_t turn_ns_max, woke_ns;
static uint64_t connects, connect_failures, random_state = 88172645463325252ull;
static struct sockaddr_in address;
static int poller;
static unsigned next_body;
static volatile sig_atomic_t stopping;

static void die(const char *what) { perror(what); exit(2); }
static void refuse(const char *why) { fprintf(stderr, "%s\n", why); exit(2); }

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * S + t.tv_nsec;
}

static void *zeroed(size_t count, size_t bytes) {
  void *room = calloc(count ? count : 1, bytes);
  if (!room) die("calloc");
  return room;
}

/* In (0, 1). splitmix64, by Steele, Lea and Flood. */
static double chance(void) {
  uint64_t z = random_state += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return (((z ^ (z >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

static Tally *tally(const Attempt *a) { return &phases[a->phase].tallies[a->class]; }

static Window *window(uint64_t due_ns) {
  uint64_t place = (due_ns - phases[0].start_ns) / WINDOW_NS;
  return &windows[place < WINDOWS_MAX ? place : WINDOWS_MAX - 1];
}

static void observe(uint32_t **histogram, uint64_t ns) {
  if (!*histogram) *histogram = zeroed(BUCKETS, sizeof **histogram);
  uint64_t bucket = ns / BUCKET_NS;
  (*histogram)[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
}

/* Arrivals. */

static void due(uint64_t due_ns, int class, int attempt, int body) {
  Attempt a = {due_ns, current, class, attempt, body};
  Tally *t = tally(&a);
  if (attempt) t->retries++; else t->arrivals++;
  window(due_ns)->attempts++;
  if (waiting_tail - waiting_head == RING) { t->unsent++; return; }
  waiting[waiting_tail++ % RING] = a;
}

static void arrive(uint64_t due_ns) {
  double left = chance();
  int class = 0;
  while (class < class_count - 1 && (left -= classes[class].weight) > 0) class++;
  due(due_ns, class, 0, body_count ? next_body++ % body_count : 0);
}

/* After anything but a 200. */
static void try_again(const Attempt *a, uint64_t now) {
  int closed = phases[a->phase].in_flight && pauses_tail - pauses_head < RING;
  if (closed) pauses[pauses_tail++ % RING] = now + REFUSED_PAUSE_NS;
  if (a->attempt + 1 < attempts && current < phase_count && !stopping) due(now, a->class, a->attempt + 1, a->body);
}

static uint64_t gap_ns(const Phase *p) { return (uint64_t)(-log(chance()) * 1e9 / p->rate); }

static void begin_phase(uint64_t start_ns) {
  Phase *p = &phases[current];
  p->start_ns = start_ns;
  p->end_ns = start_ns + (uint64_t)(p->seconds * 1e9);
  next_due_ns = p->in_flight || p->rate <= 0 ? UINT64_MAX : start_ns + gap_ns(p);
}

static void arrivals_until(uint64_t now) {
  while (current < phase_count) {
    Phase *p = &phases[current];
    uint64_t until = now < p->end_ns ? now : p->end_ns - 1;
    for (; next_due_ns <= until; next_due_ns += gap_ns(p)) {
      uint64_t lag = now - next_due_ns;
      if (lag > p->lag_ns_max) p->lag_ns_max = lag;
      if (lag > LATE_NS) p->lag_late++;
      arrive(next_due_ns);
    }
    if (now < p->end_ns) break;
    if (++current < phase_count) begin_phase(p->end_ns);
  }
  if (current == phase_count) return;
  while (pauses_head < pauses_tail && pauses[pauses_head % RING] <= now) pauses_head++;
  int wanted = phases[current].in_flight - (int)(pauses_tail - pauses_head);
  while (busy + (int)(waiting_tail - waiting_head) < wanted) arrive(now);
}

/* Connections. */

static void put_free(Conn *c) {
  c->state = FREE;
  if (c->in_ring) return;
  c->in_ring = 1;
  free_ring[free_tail++ % conn_count] = c - conns;
}

static void put_closed(Conn *c) {
  c->state = CLOSED;
  if (!c->in_ring) closed_stack[closed_count++] = c - conns;
}

static Conn *take_free(void) {
  while (free_head < free_tail) {
    Conn *c = &conns[free_ring[free_head++ % conn_count]];
    c->in_ring = 0;
    if (c->state == FREE) return c;
    put_closed(c); /* closed by the server while it was free */
  }
  return NULL;
}

static void shut(Conn *c) {
  if (c->state == BUSY) busy--;
  if (c->state == CONNECTING) connecting--; else opened--;
  close(c->fd);
  put_closed(c);
}

static void connect_failed(Conn *c) {
  connect_failures++;
  connect_after_ns = now_ns() + CONNECT_PAUSE_NS;
  shut(c);
}

static void open_conn(Conn *c) {
  int one = 1;
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (c->fd < 0) die("socket");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if ((ntohl(address.sin_addr.s_addr) >> 24) == 127) {
    uint32_t client = c - conns;
    struct sockaddr_in own = {.sin_family = AF_INET};
    own.sin_addr.s_addr = htonl(0x7f010001u + client / 250 * 256 + client % 250);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(c->fd, (struct sockaddr *)&own, sizeof own)) die("bind");
  }
  c->state = CONNECTING;
  connecting++;
  connects++;
  if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) {
    connect_failed(c);
    return;
  }
  struct epoll_event e = {.events = EPOLLET | EPOLLIN | EPOLLOUT | EPOLLRDHUP, .data.ptr = c};
  if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl");
}

static void open_wanted(uint64_t wanted) {
  if (now_ns() < connect_after_ns) return;
  while (closed_count && connecting < CONNECTING_MAX && (uint64_t)connecting < wanted) {
    open_conn(&conns[closed_stack[--closed_count]]);
  }
}

static void connected(Conn *c) {
  int error = 0;
  socklen_t bytes = sizeof error;
  if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) || error) { connect_failed(c); return; }
  connecting--;
  opened++;
  put_free(c);
}

/* Requests. */

static void ended_badly(Conn *c, uint64_t *count, uint64_t now) {
  Attempt a = c->attempt;
  (*count)++;
  shut(c);
  try_again(&a, now);
}

static int flush(Conn *c) {
  while (c->sent < c->message->bytes) {
    ssize_t n = send(c->fd, c->message->data + c->sent, c->message->bytes - c->sent, MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
    c->sent += n;
  }
  return 0;
}

static void begin(Conn *c, const Attempt *a) {
  c->attempt = *a;
  c->message = &messages[(a->class * attempts + a->attempt) * (body_count ? body_count : 1) + a->body];
  c->sent = c->got = c->need = c->chunk = 0;
  c->status = c->close_after = c->rung = 0;
  c->asked++;
  c->state = BUSY;
  busy++;
  tally(a)->sent++;
  watched[watched_tail++ % RING] = (Watch){a->due_ns, c - conns, c->asked};
  if (flush(c)) ended_badly(c, &tally(a)->broken, now_ns());
}

static void send_waiting(uint64_t now) {
  while (waiting_head < waiting_tail) {
    Attempt a = waiting[waiting_head % RING];
    if (a.due_ns + unsent_ns <= now) {
      waiting_head++;
      tally(&a)->unsent++;
      try_again(&a, now);
      continue;
    }
    Conn *c = watched_tail - watched_head < RING ? take_free() : NULL;
    if (!c) break;
    waiting_head++;
    begin(c, &a);
  }
  open_wanted(waiting_tail - waiting_head);
}

static void give_up(uint64_t now) {
  while (watched_head < watched_tail && watched[watched_head % RING].due_ns + give_up_ns <= now) {
    Watch w = watched[watched_head++ % RING];
    Conn *c = &conns[w.conn];
    if (c->state == BUSY && c->asked == w.asked) ended_badly(c, &tally(&c->attempt)->given_up, now);
  }
}

/* Answers. */

static void make_room(Conn *c, size_t bytes) {
  if (bytes < c->room) return;
  if (bytes >= ANSWER_BYTES_MAX) refuse("an answer is too large");
  while (c->room <= bytes) c->room = c->room ? c->room * 2 : ANSWER_BYTES_START;
  if (!(c->answer = realloc(c->answer, c->room))) die("realloc");
}

static void read_header(Conn *c, const char *line, size_t head_bytes, size_t *body_bytes) {
  static const char length[] = "content-length:", close[] = "connection: close", rung[] = "x-penstock-rung:";
  static const char chunked[] = "transfer-encoding: chunked";
  switch (*line | 32) {
    case 'c':
      if (!strncasecmp(line, length, sizeof length - 1)) *body_bytes = strtoul(line + sizeof length - 1, NULL, 10);
      else if (!strncasecmp(line, close, sizeof close - 1)) c->close_after = 1;
      break;
    case 't':
      if (!strncasecmp(line, chunked, sizeof chunked - 1)) c->chunk = head_bytes;
      break;
    case 'x':
      if (strncasecmp(line, rung, sizeof rung - 1)) break;
      line += sizeof rung - 1;
      c->rung = line[strspn(line, " \t")] != '\r';
  }
}

static void read_head(Conn *c) {
  char *end = memmem(c->answer, c->got, "\r\n\r\n", 4);
  if (!end) return;
  size_t head_bytes = end + 4 - c->answer, body_bytes = 0;
  c->status = head_bytes > 12 ? atoi(c->answer + 9) : 0;
  for (char *line = c->answer; line < end;) {
    line = (char *)memchr(line, '\n', end + 2 - line) + 1;
    if (line < end) read_header(c, line, head_bytes, &body_bytes);
  }
  c->need = head_bytes + body_bytes;
}

/* Whether the last chunk of a chunked answer has come. Trailers are not read: no server here sends them. */
static int chunks_complete(Conn *c) {
  c->answer[c->got] = 0;
  while (c->chunk < c->got) {
    char *size_end = strstr(c->answer + c->chunk, "\r\n");
    if (!size_end) return 0;
    size_t bytes = strtoul(c->answer + c->chunk, NULL, 16), next = size_end + 2 - c->answer + bytes + 2;
    if (bytes >= ANSWER_BYTES_MAX) refuse("an answer is too large");
    if (!bytes) return c->got >= next;
    if (next > c->got) return 0;
    c->chunk = next;
  }
  return 0;
}

/* 1: an answer is complete; 0: more to come; -1: the connection is closed or reset. */
static int on_readable(Conn *c) {
  for (;;) {
    make_room(c, (c->need > c->got ? c->need : c->got) + ANSWER_BYTES_START / 2);
    size_t room = c->room - 1 - c->got;
    ssize_t n = recv(c->fd, c->answer + c->got, room, 0);
    if (n < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
    if (n == 0) return -1;
    c->got += n;
    if (!c->need) read_head(c);
    if (c->chunk ? chunks_complete(c) : c->need && c->got >= c->need) return 1;
    if ((size_t)n < room) return 0; /* drained: what comes next is another event */
  }
}

static void answered(Conn *c, uint64_t now) {
  Attempt a = c->attempt;
  Tally *t = tally(&a);
  Window *w = window(a.due_ns);
  uint64_t ns = now - a.due_ns;
  t->statuses[c->status > 0 && c->status < STATUSES ? c->status : 0]++;
  observe(c->status == 200 ? &t->answered : &t->refused, ns);
  if (c->status == 200) {
    w->answered++;
    if (c->rung) t->rungs++;
    if (ns <= good_ns) { t->good++; w->good++; } else t->late++;
  } else {
    w->refused++;
    try_again(&a, now);
  }
}

static void on_event(Conn *c, uint32_t events) {
  if (c->state == CLOSED) return;
  if (c->state == CONNECTING) { connected(c); if (c->state != FREE) return; }
  int over = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
  if (c->state == FREE) { if (over) shut(c); return; }
  if (c->sent < c->message->bytes && flush(c)) { ended_badly(c, &tally(&c->attempt)->broken, now_ns()); return; }
  if (!(events & EPOLLIN) && !over) return;
  int done = on_readable(c);
  if (!done && !over) return;
  uint64_t now = now_ns();
  if (done <= 0) { ended_badly(c, &tally(&c->attempt)->broken, now); return; }
  answered(c, now);
  if (c->close_after || over) { shut(c); return; }
  busy--;
  put_free(c);
}

static void wait_for_events(uint64_t until) {
  struct epoll_event events[EVENTS_MAX];
  uint64_t now = now_ns();
  struct timespec t = {0, until > now ? (long)(until - now) : 0};
  if (now - woke_ns > turn_ns_max) turn_ns_max = now - woke_ns;
  int n = epoll_pwait2(poller, events, EVENTS_MAX, &t, NULL);
  woke_ns = now_ns();
  for (int i = 0; i < n; i++) on_event(events[i].data.ptr, events[i].events);
}

static void open_all(void) {
  uint64_t until = now_ns() + WARM_S_MAX * S;
  while (opened < conn_count && !stopping) {
    if (now_ns() > until) refuse("not all connections could be opened in time");
    open_wanted(conn_count);
    wait_for_events(now_ns() + MS);
  }
}

static void run(void) {
  begin_phase(woke_ns = now_ns());
  turn_ns_max = 0;
  while (!stopping && (current < phase_count || busy || waiting_head < waiting_tail)) {
    uint64_t now = now_ns();
    arrivals_until(now);
    give_up(now);
    send_waiting(now);
    uint64_t until = now + MS; /* gives up, and notices the end of a phase, to the millisecond */
    if (current < phase_count && next_due_ns < until) until = next_due_ns;
    wait_for_events(until);
  }
}

static void stop(int number) { (void)number; stopping = 1; }

/* The report. */

static double quantile(const Phase *p, int class, int refused, double q) {
  uint64_t all = 0, seen = 0;
  uint32_t last = 0;
  int from = class < class_count ? class : 0, to = class < class_count ? class + 1 : class_count;
  for (int turn = 0; turn < 2; turn++) {
    uint64_t rank = (uint64_t)(q * (double)(all ? all - 1 : 0));
    for (uint32_t bucket = 0; bucket < BUCKETS; bucket++) {
      uint64_t here = 0;
      for (int i = from; i < to; i++) {
        uint32_t *histogram = refused ? p->tallies[i].refused : p->tallies[i].answered;
        if (histogram) here += histogram[bucket];
      }
      if (!turn) { all += here; continue; }
      if (here) last = bucket;
      if ((seen += here) > rank) break;
    }
  }
  return all ? (last + 1) * (BUCKET_NS / 1e6) : 0;
}

static void print_class(const Phase *p, int class) {
  Tally all = {0};
  const Tally *t = &p->tallies[class];
  if (class == class_count) {
    for (int i = 0; i < class_count; i++) {
      const uint64_t *from = (const uint64_t *)&p->tallies[i];
      uint64_t *to = (uint64_t *)&all;
      for (size_t place = 0; place < offsetof(Tally, answered) / sizeof *to; place++) to[place] += from[place];
    }
    t = &all;
  }
  printf("%s{\"name\": \"%s\", \"arrivals\": %lu, \"retries\": %lu, \"sent\": %lu, \"good\": %lu, \"late\": %lu, ",
         class ? ", " : "", class < class_count ? classes[class].name : "*", t->arrivals, t->retries, t->sent,
         t->good, t->late);
  printf("\"rungs\": %lu, \"given_up\": %lu, \"broken\": %lu, \"unsent\": %lu, \"statuses\": {", t->rungs,
         t->given_up, t->broken, t->unsent);
  const char *comma = "";
  for (int s = 0; s < STATUSES; s++) {
    if (!t->statuses[s]) continue;
    printf("%s\"%d\": %lu", comma, s, t->statuses[s]);
    comma = ", ";
  }
  printf("}, \"p50_ms\": %.2f, \"p99_ms\": %.2f, \"max_ms\": %.2f, ", quantile(p, class, 0, .5),
         quantile(p, class, 0, .99), quantile(p, class, 0, 1));
  printf("\"refusal_p50_ms\": %.2f, \"refusal_p99_ms\": %.2f}", quantile(p, class, 1, .5), quantile(p, class, 1, .99));
}

static void report(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  double cpu_s = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
  printf("{\"start_s\": %.6f, \"connections\": %d, \"connects\": %lu, \"connect_failures\": %lu, \"cpu_s\": %.3f, ",
         phases[0].start_ns / 1e9, conn_count, connects, connect_failures, cpu_s);
  printf("\"turn_ms_max\": %.2f, \"phases\": [", turn_ns_max / 1e6);
  for (int i = 0; i < phase_count; i++) {
    const Phase *p = &phases[i];
    printf("%s{\"name\": \"%s\", \"rate\": %.2f, \"in_flight\": %d, \"start_s\": %.6f, \"seconds\": %.3f, ",
           i ? ", " : "", p->name, p->rate, p->in_flight, p->start_ns / 1e9, p->seconds);
    printf("\"lag_ms_max\": %.2f, \"lag_late\": %lu, \"classes\": [", p->lag_ns_max / 1e6, p->lag_late);
    for (int class = 0; class <= class_count; class++) print_class(p, class);
    printf("]}");
  }
  uint64_t last = phase_count ? (phases[phase_count - 1].end_ns - phases[0].start_ns) / WINDOW_NS : 0;
  printf("], \"window_s\": %.3f, \"windows\": [", WINDOW_NS / 1e9);
  for (uint64_t i = 0; i < last && i < WINDOWS_MAX; i++) {
    Window *w = &windows[i];
    printf("%s[%u, %u, %u, %u]", i ? ", " : "", w->attempts, w->good, w->answered, w->refused);
  }
  printf("]}\n");
}

/* The command line. */

static char *part(char **rest) {
  char *start = *rest, *colon = start ? strchr(start, ':') : NULL;
  if (!colon) refuse("-p wants NAME:RATE:SECONDS, -k wants NAME:WEIGHT:HEADER");
  *colon = 0;
  *rest = colon + 1;
  return start;
}

static void add_phase(char *text) {
  if (phase_count == PHASES_MAX) refuse("too many phases");
  Phase *p = &phases[phase_count++];
  p->name = part(&text);
  char *rate = part(&text);
  if (*rate == 'c') p->in_flight = atoi(rate + 1); else p->rate = atof(rate);
  p->seconds = atof(text);
  if (p->seconds <= 0 || p->rate < 0 || p->in_flight < 0) refuse("a phase wants a rate and seconds above 0");
}

static void add_class(char *text) {
  if (class_count == CLASSES_MAX) refuse("too many classes");
  Class *k = &classes[class_count++];
  k->name = part(&text);
  k->weight = atof(part(&text));
  k->header = text;
}

static char *read_body(const char *file, size_t *bytes) {
  FILE *f = fopen(file, "rb");
  if (!f) die(file);
  char *body = malloc(BODY_BYTES_MAX);
  if (!body) die("malloc");
  *bytes = fread(body, 1, BODY_BYTES_MAX, f);
  fclose(f);
  return realloc(body, *bytes ? *bytes : 1);
}

static Message message(const char *host, int port, const char *path, const char *headers, const char *body,
                       size_t bytes) {
  size_t room = HEADER_BYTES_MAX * 2 + strlen(path) + bytes;
  Message m = {malloc(room), 0};
  if (!m.data) die("malloc");
  m.bytes = snprintf(m.data, room, "%s %s HTTP/1.1\r\nHost: %s:%d\r\n%s", body ? "POST" : "GET", path, host, port,
                     headers);
  if (body) m.bytes += sprintf(m.data + m.bytes, "Content-Length: %zu\r\n", bytes);
  m.bytes += sprintf(m.data + m.bytes, "\r\n");
  if (body) memcpy(m.data + m.bytes, body, bytes);
  m.bytes += bytes;
  if (!(m.data = realloc(m.data, m.bytes))) die("realloc");
  return m;
}

static void make_messages(const char *host, int port, const char *path, const char *headers, const char **files) {
  int bodies = body_count ? body_count : 1, place = 0;
  messages = zeroed((size_t)class_count * attempts * bodies, sizeof *messages);
  for (int class = 0; class < class_count; class++) for (int attempt = 0; attempt < attempts; attempt++) {
    char all[HEADER_BYTES_MAX + 512], again[64] = "";
    if (attempt) snprintf(again, sizeof again, "x-retry-attempt: %d\r\n", attempt);
    const char *own = classes[class].header;
    if (strlen(own) > 256) refuse("a class's header is too long");
    snprintf(all, sizeof all, "%s%s%s%s", headers, own, *own ? "\r\n" : "", again);
    for (int body = 0; body < bodies; body++) {
      size_t bytes = 0;
      char *data = body_count ? read_body(files[body], &bytes) : NULL;
      messages[place++] = message(host, port, path, all, data, bytes);
      free(data);
    }
  }
}

static void weigh_classes(void) {
  double sum = 0;
  if (!class_count) classes[class_count++] = (Class){"", "", 1};
  for (int i = 0; i < class_count; i++) sum += classes[i].weight;
  if (sum <= 0) refuse("the weights of classes are above 0");
  for (int i = 0; i < class_count; i++) classes[i].weight /= sum;
}

static void raise_open_files(int wanted) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < (rlim_t)wanted + 16) refuse("more connections than open files allowed: raise `ulimit -n`");
}

int main(int argc, char **argv) {
  static const char *files[BODIES_MAX];
  static char headers[HEADER_BYTES_MAX];
  const char *host = "127.0.0.1", *path = "/";
  int port = 8000, option;
  conn_count = 2000;
  while ((option = getopt(argc, argv, "h:P:u:b:H:p:k:c:D:Q:T:r:s:")) != -1) switch (option) {
    case 'h': host = optarg; break;
    case 'P': port = atoi(optarg); break;
    case 'u': path = optarg; break;
    case 'b': if (body_count == BODIES_MAX) refuse("too many bodies"); files[body_count++] = optarg; break;
    case 'H':
      if (strlen(headers) + strlen(optarg) + 3 > sizeof headers) refuse("the headers are too long");
      strcat(strcat(headers, optarg), "\r\n");
      break;
    case 'p': add_phase(optarg); break;
    case 'k': add_class(optarg); break;
    case 'c': conn_count = atoi(optarg); break;
    case 'D': good_ns = (uint64_t)(atof(optarg) * MS); break;
    case 'Q': unsent_ns = (uint64_t)(atof(optarg) * MS); break;
    case 'T': give_up_ns = (uint64_t)(atof(optarg) * MS); break;
    case 'r': attempts = 1 + atoi(optarg); break;
    case 's': random_state ^= strtoull(optarg, NULL, 10) * 0x9e3779b97f4a7c15ull; break;
    default: return 2;
  }
  if (!phase_count) refuse("no phase: say -p NAME:RATE:SECONDS");
  if (conn_count < 1 || attempts < 1 || attempts > ATTEMPTS_MAX) refuse("-c wants 1 or more, -r 0 to 15");
  if (!unsent_ns) unsent_ns = good_ns;
  signal(SIGPIPE, SIG_IGN);
  signal(SIGINT, stop);
  signal(SIGTERM, stop);
  raise_open_files(conn_count);
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) refuse("-h wants an IPv4 address");
  weigh_classes();
  make_messages(host, port, path, headers, files);
  conns = zeroed(conn_count, sizeof *conns);
  free_ring = zeroed(conn_count, sizeof *free_ring);
  closed_stack = zeroed(conn_count, sizeof *closed_stack);
  windows = zeroed(WINDOWS_MAX, sizeof *windows);
  waiting = zeroed(RING, sizeof *waiting);
  pauses = zeroed(RING, sizeof *pauses);
  watched = zeroed(RING, sizeof *watched);
  for (int i = conn_count; i--;) closed_stack[closed_count++] = i;
  poller = epoll_create1(EPOLL_CLOEXEC);
  if (poller < 0) die("epoll_create1");
  open_all();
  connects = connect_failures = 0;
  run();
  report();
  return 0;
}
