/* An HTTP/1.1 load generator. Closed loop: each connection sends its next request when the answer to the
 * last one is complete, which measures throughput and latency at a fixed concurrency. Open loop (-R): requests
 * are due at a fixed rate whatever the server does, go out on a connection that is free, and their latency
 * counts from when they were due. One thread, epoll, keep-alive, any IPv4 address.
 *
 *   cc -O2 -o closedloop closedloop.c
 *   ./closedloop -P 8000 -u /v2/models/m/infer -b body.json -c 64 -w 1 -d 5
 *
 *   -h HOST  IPv4 address (127.0.0.1)    -P PORT    -u PATH
 *   -b FILE  a POST body, repeatable: every connection goes round all of them, each from another start (none: GET)
 *   -H 'K: V'  a further header, repeatable
 *   -c N  connections that send          -i N  further connections, opened first and silent, that send one
 *   request each at the end              -w S  seconds not counted, first
 *   -d S  seconds counted (up to 10 s more until 10 answers have come, and fewer with -n)
 *   -n N  answers counted, at most (0: no such bound)
 *   -R N  open loop: N requests a second, all connections together
 *   -r N  requests on one connection, which is then closed and opened anew (0: no such bound)
 *   -f FILE  a record of windows of 10 ms and of every failure, as JSON
 *   -X TEXT -Y TEXT  in each answer with status 200 the whole number after the first TEXT (a version's) must be
 *   the one after the second (what that version's model says)
 *
 * SIGINT and SIGTERM end the measuring early; the report comes all the same. Prints one JSON object: requests,
 * seconds, rps, p50_us, p90_us, p99_us, p999_us, max_us, status (counts), errors (connections broken in
 * mid-request, then opened anew), of them reset and closed; refused (connections not had at the first try),
 * hung (unanswered for over 1 s at the end; of an open loop, whose end waits for its answers, for 5 s), early
 * (failures of any kind before counting began), overdue (of an open loop: due by the end, and not sent), start_s (when counting began, on the monotonic clock), idle,
 * idle_served, idle_dropped (closed by the server while they were silent); with -X also versions (answers, first
 * and last answer of each), mixed and unread answers. Exit status 1 when nothing was answered, 2 when it could
 * not run.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
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

enum {
  ANSWER_BYTES_START = 4096,
  ANSWER_BYTES_MAX = 1 << 20,
  BODIES_MAX = 1024,
  BODY_BYTES_MAX = 16 << 20,
  HEADER_BYTES_MAX = 8192,
  LATENCY_US_MAX = 10 * 1000 * 1000,
  IDLE_SERVE_S_MAX = 30,
  ANSWERS_MIN = 10,
  OVERTIME_S_MAX = 10,
  WINDOW_NS = 10 * 1000 * 1000,
  WINDOWS_MAX = 8 * 3600 * 100,
  FAILURES_MAX = 100 * 1000,
  VERSIONS_MAX = 4096,
  HUNG_NS = 1000 * 1000 * 1000,
};

static const uint64_t DRAIN_NS = 5ull * 1000 * 1000 * 1000;

typedef struct { char *data; size_t bytes; } Request;

typedef struct {
  int fd;
  unsigned turn;          /* which request comes next */
  const Request *request; /* NULL while nothing is asked */
  size_t sent, got, need; /* need: the answer's whole length, 0 while its head is incomplete */
  size_t chunk;           /* where the next chunk of a chunked answer begins, 0 if it is not chunked */
  size_t room;
  int status, close_after, silent, port;
  unsigned asked;         /* requests since it was opened */
  uint64_t start_ns, opened_ns;
  char *answer;
} Conn;

typedef enum { RESET, CLOSED, REFUSED, STATUS, MIXED } Kind;
static const char *kind_names[] = {"reset", "closed", "refused", "status", "mixed"};

typedef struct { uint32_t good, other, broken, max_us; } Window;
typedef struct { uint64_t at_ns, start_ns, opened_ns; Kind kind; int status, port; } Failure;
typedef struct { uint64_t answers, first_ns, last_ns; } Version;

static struct sockaddr_in address;
static Request requests[BODIES_MAX];
static unsigned request_count;
static uint32_t *histogram; /* one counter a microsecond */
static uint64_t statuses[600], errors, counted, counted_max, idle_dropped;
static uint64_t broken[2], refused, early, mixed, unread;
static int poller, counting;
static volatile sig_atomic_t stopping;
static unsigned renew_after;
static uint64_t interval_ns, next_due_ns, counting_since_ns; /* interval_ns: of an open loop, else 0 */
static Conn **spare;          /* of an open loop: connections that ask nothing */
static int spare_count;
static Window *windows;       /* of a record, as the failures; else NULL */
static uint32_t window_count;
static Failure *failures;
static uint32_t failure_count;
static const char *version_mark, *output_mark;
static Version versions[VERSIONS_MAX];

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void die(const char *what) { perror(what); exit(2); }
static void refuse(const char *why) { fprintf(stderr, "%s\n", why); exit(2); }

static Window *window(uint64_t at_ns) {
  uint64_t place = (at_ns - counting_since_ns) / WINDOW_NS;
  if (place >= WINDOWS_MAX) refuse("the record is too long");
  if (place >= window_count) window_count = place + 1;
  return &windows[place];
}

static void record_failure(const Conn *c, Kind kind) {
  if (!counting) { early++; return; }
  if (!windows) return;
  uint64_t at_ns = now_ns();
  if (kind != STATUS && kind != MIXED) window(at_ns)->broken++;
  if (failure_count == FAILURES_MAX) refuse("too many failures to record");
  failures[failure_count++] = (Failure){at_ns, c->start_ns, c->opened_ns, kind, c->status, c->port};
}

/* Connects while blocking: loopback answers at once, and a full accept queue then slows us, not fails us. */
static void open_conn(Conn *c) {
  int one = 1, wait_ms = 1;
  for (;;) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    if (!connect(c->fd, (struct sockaddr *)&address, sizeof address)) break;
    if (counting) refused++;
    record_failure(c, REFUSED);
    close(c->fd);
    if (wait_ms > 2000) die("connect");
    usleep(wait_ms * 1000);
    wait_ms *= 2;
  }
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK);
  struct sockaddr_in own;
  socklen_t own_bytes = sizeof own;
  if (!getsockname(c->fd, (struct sockaddr *)&own, &own_bytes)) c->port = ntohs(own.sin_port);
  c->request = NULL;
  c->asked = 0;
  c->opened_ns = now_ns();
  struct epoll_event e = {.events = EPOLLET | EPOLLRDHUP, .data.ptr = c};
  if (!c->silent) e.events |= EPOLLIN | EPOLLOUT;
  if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl");
}

static void flush(Conn *c) {
  while (c->request && c->sent < c->request->bytes) {
    ssize_t n = send(c->fd, c->request->data + c->sent, c->request->bytes - c->sent, MSG_NOSIGNAL);
    if (n <= 0) return; /* EAGAIN: the poller calls again; a broken pipe: the read side sees it */
    c->sent += n;
  }
}

static void begin(Conn *c, uint64_t due_ns) {
  c->request = &requests[c->turn++ % request_count];
  c->sent = c->got = c->need = c->chunk = 0;
  c->close_after = 0;
  c->status = 0;
  c->asked++;
  c->start_ns = due_ns;
  flush(c);
}

static void make_room(Conn *c, size_t bytes) {
  if (bytes < c->room) return;
  if (bytes >= ANSWER_BYTES_MAX) refuse("an answer is too large");
  while (c->room <= bytes) c->room = c->room ? c->room * 2 : ANSWER_BYTES_START;
  if (!(c->answer = realloc(c->answer, c->room))) die("realloc");
}

static void parse_head(Conn *c) {
  c->answer[c->got] = 0;
  char *end = strstr(c->answer, "\r\n\r\n");
  if (!end) return;
  c->status = c->got > 12 ? atoi(c->answer + 9) : 0;
  size_t body = 0;
  for (char *line = strstr(c->answer, "\r\n"); line && line < end; line = strstr(line + 2, "\r\n")) {
    if (!strncasecmp(line + 2, "content-length:", 15)) body = strtoul(line + 17, NULL, 10);
    else if (!strncasecmp(line + 2, "connection: close", 17)) c->close_after = 1;
    else if (!strncasecmp(line + 2, "transfer-encoding: chunked", 26)) c->chunk = end + 4 - c->answer;
  }
  c->need = (size_t)(end + 4 - c->answer) + body;
}

/* Whether the last chunk of a chunked answer has come. Trailers are not read: no server here sends them. */
static int chunks_complete(Conn *c) {
  c->answer[c->got] = 0;
  while (c->chunk < c->got) {
    char *size_end = strstr(c->answer + c->chunk, "\r\n");
    if (!size_end) return 0;
    size_t bytes = strtoul(c->answer + c->chunk, NULL, 16);
    size_t next = size_end + 2 - c->answer + bytes + 2;
    if (bytes >= ANSWER_BYTES_MAX) refuse("an answer is too large");
    if (!bytes) return c->got >= next;
    if (next > c->got) return 0;
    c->chunk = next;
  }
  return 0;
}

/* The whole number after the mark, or -1. */
static long number_after(const char *text, const char *mark) {
  const char *found = strstr(text, mark);
  char *end;
  if (!found) return -1;
  long number = strtol(found + strlen(mark), &end, 10);
  return end == found + strlen(mark) ? -1 : number;
}

static void check_version(Conn *c, uint64_t at_ns) {
  c->answer[c->got] = 0;
  long version = number_after(c->answer, version_mark), said = number_after(c->answer, output_mark);
  if (version < 0 || version >= VERSIONS_MAX || said < 0) { unread++; return; }
  if (version != said) { mixed++; record_failure(c, MIXED); }
  if (!versions[version].answers++) versions[version].first_ns = at_ns;
  versions[version].last_ns = at_ns;
}

static void count(Conn *c) {
  if (c->status != 200) record_failure(c, STATUS);
  if (!counting) return;
  uint64_t at_ns = now_ns(), us = (at_ns - c->start_ns) / 1000;
  histogram[us < LATENCY_US_MAX ? us : LATENCY_US_MAX - 1]++;
  statuses[c->status > 0 && c->status < 600 ? c->status : 0]++;
  counted++;
  if (version_mark && c->status == 200) check_version(c, at_ns);
  if (!windows) return;
  Window *w = window(at_ns);
  if (c->status == 200) w->good++; else w->other++;
  if (us > w->max_us) w->max_us = us;
}

static void count_broken(Conn *c, Kind kind) {
  if (counting) { errors++; broken[kind]++; }
  record_failure(c, kind);
}

/* 1: an answer is complete; 0: more to come; -1: the connection was closed; -2: it was reset. */
static int on_readable(Conn *c) {
  for (;;) {
    make_room(c, c->need > c->got + 1 ? c->need : c->got + 1);
    ssize_t n = recv(c->fd, c->answer + c->got, c->room - 1 - c->got, 0);
    if (n < 0) return errno == EAGAIN || errno == EINTR ? 0 : -2;
    if (n == 0) return -1;
    c->got += n;
    if (!c->need) parse_head(c);
    if (c->chunk ? chunks_complete(c) : c->need && c->got >= c->need) return 1;
  }
}

static void on_event(Conn *c, uint32_t events) {
  if (c->silent) {
    idle_dropped++;
    epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
    return;
  }
  flush(c);
  if (!(events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))) return;
  int done = on_readable(c);
  if (!done) return;
  int asked = c->request != NULL; /* else it was spare, and closing it is the server's good right */
  if (done > 0) count(c);
  else if (asked) count_broken(c, done == -2 ? RESET : CLOSED);
  if (done < 0 || c->close_after || (renew_after && c->asked >= renew_after)) { close(c->fd); open_conn(c); }
  c->request = NULL;
  if (!interval_ns) begin(c, now_ns());
  else if (asked) spare[spare_count++] = c;
}

/* Sends what is due, as far as connections are free. */
static void send_due(uint64_t end_ns) {
  while (spare_count && next_due_ns <= now_ns() && next_due_ns < end_ns) {
    begin(spare[--spare_count], next_due_ns);
    next_due_ns += interval_ns;
  }
}

static void wait_for_events(uint64_t end_ns) {
  struct epoll_event events[1024];
  uint64_t now = now_ns(), until = now + 10 * 1000 * 1000;
  if (end_ns < until) until = end_ns;
  struct timespec t = {0, until > now ? (long)(until - now) : 0};
  int n = epoll_pwait2(poller, events, 1024, &t, NULL);
  for (int i = 0; i < n; i++) on_event(events[i].data.ptr, events[i].events);
}

static void run_until(uint64_t end_ns) {
  while (!stopping && now_ns() < end_ns && (!counted_max || counted < counted_max)) {
    if (interval_ns) send_due(end_ns);
    wait_for_events(interval_ns && spare_count && next_due_ns < end_ns ? next_due_ns : end_ns);
  }
}

static int in_flight(const Conn *all, int n) {
  int found = 0;
  for (int i = 0; i < n; i++) found += all[i].request != NULL;
  return found;
}

/* An open loop's last requests get their answers: a machine that stands still is no server that hangs. */
static void drain(const Conn *all, int n) {
  uint64_t end_ns = now_ns() + DRAIN_NS;
  while (in_flight(all, n) && now_ns() < end_ns) wait_for_events(end_ns);
}

static void stop(int number) { (void)number; stopping = 1; }

/* One request on each silent connection, one after the other: each must still be alive and answered with 200. */
static int serve_idle(Conn *idle, int n) {
  int served = 0;
  uint64_t end_ns = now_ns() + IDLE_SERVE_S_MAX * 1000000000ull;
  for (int i = 0; i < n && now_ns() < end_ns; i++) {
    Conn *c = &idle[i];
    begin(c, now_ns());
    int done = 0;
    while (!(done = on_readable(c)) && now_ns() < end_ns) {
      flush(c);
      struct pollfd p = {.fd = c->fd, .events = POLLIN};
      poll(&p, 1, 5);
    }
    served += done > 0 && c->status == 200;
  }
  return served;
}

static double quantile(double q) {
  uint64_t rank = (uint64_t)(q * (double)(counted - 1)), seen = 0;
  for (uint32_t us = 0; us < LATENCY_US_MAX; us++) if ((seen += histogram[us]) > rank) return us;
  return LATENCY_US_MAX;
}

static void add_request(const char *host, int port, const char *path, const char *file, const char *headers) {
  char *body = NULL;
  size_t bytes = 0;
  if (request_count == BODIES_MAX) refuse("too many bodies");
  if (file) {
    FILE *f = fopen(file, "rb");
    if (!f) die(file);
    if (!(body = malloc(BODY_BYTES_MAX))) die("malloc");
    bytes = fread(body, 1, BODY_BYTES_MAX, f);
    fclose(f);
  }
  Request *r = &requests[request_count++];
  size_t head_bytes_max = HEADER_BYTES_MAX + strlen(path) + 256;
  if (!(r->data = malloc(bytes + head_bytes_max))) die("malloc");
  r->bytes = snprintf(r->data, head_bytes_max, "%s %s HTTP/1.1\r\nHost: %s:%d\r\n%s", file ? "POST" : "GET", path,
                      host, port, headers);
  if (file) r->bytes += sprintf(r->data + r->bytes, "Content-Length: %zu\r\n", bytes);
  r->bytes += sprintf(r->data + r->bytes, "\r\n");
  if (bytes) memcpy(r->data + r->bytes, body, bytes);
  r->bytes += bytes;
  free(body);
}

static Conn *open_all(int n, int silent) {
  Conn *all = calloc(n ? n : 1, sizeof *all);
  if (!all) die("calloc");
  for (int i = 0; i < n; i++) {
    all[i].silent = silent;
    all[i].turn = i;
    open_conn(&all[i]);
  }
  return all;
}

static void write_record(const char *file) {
  FILE *f = fopen(file, "w");
  if (!f) die(file);
  fprintf(f, "{\"start_s\": %.6f, \"window_s\": %.3f, \"windows\": [", counting_since_ns / 1e9, WINDOW_NS / 1e9);
  for (uint32_t i = 0; i < window_count; i++) {
    Window *w = &windows[i];
    fprintf(f, "%s[%u, %u, %u, %u]", i ? ", " : "", w->good, w->other, w->broken, w->max_us);
  }
  fprintf(f, "], \"failures\": [");
  for (uint32_t i = 0; i < failure_count; i++) {
    Failure *e = &failures[i];
    fprintf(f, "%s[%.6f, %.6f, %.6f, \"%s\", %d, %d]", i ? ", " : "", e->at_ns / 1e9, e->start_ns / 1e9,
            e->opened_ns / 1e9, kind_names[e->kind], e->status, e->port);
  }
  fprintf(f, "]}\n");
  if (fclose(f)) die(file);
}

static void report_versions(void) {
  const char *comma = "";
  printf(", \"mixed\": %lu, \"unread\": %lu, \"versions\": {", mixed, unread);
  for (int v = 0; v < VERSIONS_MAX; v++) {
    if (!versions[v].answers) continue;
    printf("%s\"%d\": [%lu, %.6f, %.6f]", comma, v, versions[v].answers, versions[v].first_ns / 1e9,
           versions[v].last_ns / 1e9);
    comma = ", ";
  }
  printf("}");
}

static int count_hung(const Conn *all, int n, uint64_t at_ns) {
  int hung = 0;
  for (int i = 0; i < n; i++) hung += all[i].request && at_ns - all[i].start_ns > HUNG_NS;
  return hung;
}

static void report(uint64_t elapsed_ns, int hung, int idle, int idle_served) {
  double seconds = elapsed_ns / 1e9;
  uint32_t max = LATENCY_US_MAX - 1;
  while (max && !histogram[max]) max--;
  printf("{\"requests\": %lu, \"seconds\": %.3f, \"rps\": %.1f, ", counted, seconds, counted / seconds);
  printf("\"p50_us\": %.0f, \"p90_us\": %.0f, \"p99_us\": %.0f, \"p999_us\": %.0f, \"max_us\": %u, \"status\": {",
         quantile(.5), quantile(.9), quantile(.99), quantile(.999), max);
  const char *comma = "";
  for (int s = 0; s < 600; s++) if (statuses[s]) { printf("%s\"%d\": %lu", comma, s, statuses[s]); comma = ", "; }
  uint64_t end_ns = counting_since_ns + elapsed_ns;
  printf("}, \"errors\": %lu, \"reset\": %lu, \"closed\": %lu, \"refused\": %lu, \"hung\": %d, \"early\": %lu, ",
         errors, broken[RESET], broken[CLOSED], refused, hung, early);
  printf("\"overdue\": %lu, \"start_s\": %.6f, \"idle\": %d, \"idle_served\": %d, \"idle_dropped\": %lu",
         interval_ns && next_due_ns < end_ns ? (end_ns - next_due_ns) / interval_ns : 0ul, counting_since_ns / 1e9,
         idle, idle_served, idle_dropped);
  if (version_mark) report_versions();
  printf("}\n");
}

static void raise_open_files(int wanted) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < (rlim_t)wanted + 16) refuse("more connections than open files allowed: raise `ulimit -n`");
}

int main(int argc, char **argv) {
  const char *host = "127.0.0.1", *path = "/", *files[BODIES_MAX];
  char headers[HEADER_BYTES_MAX] = "";
  int port = 8000, active = 64, idle = 0, bodies = 0, option;
  const char *record = NULL;
  double warmup_s = 1, counted_s = 5, rate = 0;
  while ((option = getopt(argc, argv, "h:P:u:b:H:c:i:w:d:n:R:r:f:X:Y:")) != -1) switch (option) {
    case 'h': host = optarg; break;
    case 'P': port = atoi(optarg); break;
    case 'u': path = optarg; break;
    case 'b': if (bodies == BODIES_MAX) refuse("too many bodies"); files[bodies++] = optarg; break;
    case 'H':
      if (strlen(headers) + strlen(optarg) + 3 > sizeof headers) refuse("the headers are too long");
      strcat(strcat(headers, optarg), "\r\n");
      break;
    case 'c': active = atoi(optarg); break;
    case 'i': idle = atoi(optarg); break;
    case 'w': warmup_s = atof(optarg); break;
    case 'd': counted_s = atof(optarg); break;
    case 'n': counted_max = strtoull(optarg, NULL, 10); break;
    case 'R': rate = atof(optarg); break;
    case 'r': renew_after = strtoul(optarg, NULL, 10); break;
    case 'f': record = optarg; break;
    case 'X': version_mark = optarg; break;
    case 'Y': output_mark = optarg; break;
    default: return 2;
  }
  if (!version_mark != !output_mark) refuse("-X and -Y go together");
  if (rate > 0) interval_ns = (uint64_t)(1e9 / rate);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGINT, stop);
  signal(SIGTERM, stop);
  raise_open_files(active + idle);
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) refuse("-h wants an IPv4 address");
  for (int i = 0; i < bodies; i++) add_request(host, port, path, files[i], headers);
  if (!bodies) add_request(host, port, path, NULL, headers);
  if (!(histogram = calloc(LATENCY_US_MAX, sizeof *histogram))) die("calloc");
  if (!(spare = calloc(active ? active : 1, sizeof *spare))) die("calloc");
  if (record && !(windows = calloc(WINDOWS_MAX, sizeof *windows))) die("calloc");
  if (record && !(failures = calloc(FAILURES_MAX, sizeof *failures))) die("calloc");
  poller = epoll_create1(EPOLL_CLOEXEC);
  Conn *idlers = open_all(idle, 1), *senders = open_all(active, 0);
  next_due_ns = now_ns();
  for (int i = 0; i < active; i++) {
    if (interval_ns) spare[spare_count++] = &senders[i];
    else begin(&senders[i], now_ns());
  }
  run_until(now_ns() + (uint64_t)(warmup_s * 1e9));
  uint64_t start = counting_since_ns = now_ns();
  counting = 1;
  run_until(start + (uint64_t)(counted_s * 1e9));
  if (!stopping && counted < ANSWERS_MIN && (!counted_max || counted_max > ANSWERS_MIN)) {
    counted_max = ANSWERS_MIN;
    run_until(now_ns() + OVERTIME_S_MAX * 1000000000ull);
  }
  uint64_t elapsed = now_ns() - start;
  if (interval_ns) drain(senders, active);
  counting = 0;
  int hung = interval_ns ? in_flight(senders, active) : count_hung(senders, active, start + elapsed);
  int served = serve_idle(idlers, idle);
  if (record) write_record(record);
  if (!counted) { fprintf(stderr, "nothing was answered\n"); return 1; }
  report(elapsed, hung, idle, served);
  return 0;
}
