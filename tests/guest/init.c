/*
 * The tiny guest's only program. It loads its modules, then tells on the serial line what its kernel tells it of disks,
 * as the kernel tells it (uevents, no polling), so that a test sees what a guest sees and when.
 *
 * It prints
 *   READY UPTIME                     once, when it listens
 *   + NAME SECTORS SERIAL HEAD       a disk is there: 512-byte sectors, serial or "-", first 16 bytes (see print_text)
 *   - NAME                           a disk went away
 *   = NAME SECTORS                   a disk changed its size
 * and answers one line, which starts with the command's own word:
 *   ls                               "+ ..." for each disk, then "ls end"
 *   r NAME OFFSET LENGTH             "r NAME ok TEXT" or "r NAME error REASON"
 *   q NAME                           "q NAME LOGICAL PHYSICAL RO QUEUES": block sizes in bytes, 1 if read-only, virtqueues in use
 *   w NAME OFFSET TEXT               "w NAME ok" (written and flushed) or "w NAME error REASON"
 *   off                              powers off
 * Its power button powers it off, too.
 * Where it has a channel org.qemu.guest_agent.0 it also is the guest's agent, as much of it as freezing wants: it prints
 *   FROZEN                           nothing of the serial line is obeyed from here on, so nothing is written
 *   THAWED                           it goes on with what came meanwhile
 * Reads and writes bypass the page cache: they are the disk's word, not a memory of it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

enum {
    BLOCK = 4096,             /* unit of direct I/O: fits disks with 512-byte and with 4096-byte sectors */
    HEAD = 16,                /* bytes of a disk's start that "+" shows */
    LENGTH_MAX = 2048,        /* longest text of one "r" or "w" */
    LINE_MAX_BYTES = 2600,    /* a "w" with its text */
};

static int agent = -1; /* the channel to whoever asks the agent */
static int frozen;

static char block[2 * BLOCK] __attribute__((aligned(BLOCK))); /* LENGTH_MAX bytes at any offset touch two blocks at most */

static void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    fflush(stdout);
}

/* Printable bytes as they are, zero as '_', all others as '.': any content makes one word. */
static void print_text(const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        putchar(bytes[i] == 0 ? '_' : bytes[i] > ' ' && bytes[i] <= '~' ? bytes[i] : '.');
}

/* Reads a small file; returns how many bytes, 0 if it can't. The result is terminated and has no trailing white space. */
static size_t read_file(const char *path, char *text, size_t size)
{
    text[0] = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t length = read(file, text, size - 1);
    close(file);
    if (length <= 0)
        return 0;
    text[length] = 0;
    size_t end = length;
    while (end > 0 && (text[end - 1] == '\n' || text[end - 1] == ' '))
        text[--end] = 0;
    return length;
}

static int open_disk(const char *name, int flags)
{
    char path[128];
    snprintf(path, sizeof path, "/dev/%s", name);
    return open(path, flags | O_DIRECT | O_CLOEXEC);
}

static void sectors_of(const char *name, char *text, size_t size)
{
    char path[300];
    snprintf(path, sizeof path, "/sys/block/%s/size", name);
    if (read_file(path, text, size) == 0)
        snprintf(text, size, "?");
}

/* virtio-blk has its serial in sysfs; a SCSI disk has it in vital product data page 0x80: 4 bytes of header, then text. */
static void serial_of(const char *name, char *serial, size_t size)
{
    char path[300], page[260];
    snprintf(path, sizeof path, "/sys/block/%s/serial", name);
    if (read_file(path, serial, size) > 0)
        return;
    snprintf(path, sizeof path, "/sys/block/%s/device/vpd_pg80", name);
    size_t length = read_file(path, page, sizeof page), used = 0;
    for (size_t i = 4; i < length && used + 1 < size; i++)
        if (page[i] > ' ' && page[i] <= '~')
            serial[used++] = page[i];
    serial[used] = 0;
    if (used == 0)
        snprintf(serial, size, "-");
}

static void show_disk(const char *name)
{
    char sectors[64], serial[256];
    sectors_of(name, sectors, sizeof sectors);
    serial_of(name, serial, sizeof serial);
    printf("+ %s %s %s ", name, sectors, serial);
    int disk = open_disk(name, O_RDONLY);
    if (disk >= 0 && pread(disk, block, BLOCK, 0) >= HEAD)
        print_text(block, HEAD);
    else
        putchar('-');
    if (disk >= 0)
        close(disk);
    say("\n");
}

static void list_disks(void)
{
    DIR *folder = opendir("/sys/block");
    struct dirent *entry;
    while (folder && (entry = readdir(folder)))
        if (entry->d_name[0] != '.')
            show_disk(entry->d_name);
    if (folder)
        closedir(folder);
    say("ls end\n");
}

/* Reads the blocks that hold [offset, offset + length) into `block`; returns the text's place in it, or NULL with errno. */
static char *load(int disk, long long offset, size_t length, off_t *start, size_t *span)
{
    *start = offset / BLOCK * BLOCK;
    *span = (offset + length + BLOCK - 1) / BLOCK * BLOCK - *start;
    memset(block, 0, sizeof block);
    ssize_t got = pread(disk, block, *span, *start);
    if (got < 0)
        return NULL;
    if (got < (ssize_t)(offset - *start + length)) {
        errno = ENOSPC;
        return NULL;
    }
    return block + (offset - *start);
}

static void read_disk(const char *name, long long offset, size_t length)
{
    off_t start;
    size_t span;
    int disk = open_disk(name, O_RDONLY);
    char *text = disk < 0 ? NULL : load(disk, offset, length, &start, &span);
    if (text) {
        printf("r %s ok ", name);
        print_text(text, length);
        say("\n");
    } else {
        say("r %s error %s\n", name, strerror(errno));
    }
    if (disk >= 0)
        close(disk);
}

static void write_disk(const char *name, long long offset, const char *text)
{
    off_t start;
    size_t span, length = strlen(text);
    int disk = open_disk(name, O_RDWR);
    char *place = disk < 0 ? NULL : load(disk, offset, length, &start, &span);
    if (place)
        memcpy(place, text, length);
    if (place && pwrite(disk, block, span, start) == (ssize_t)span && fsync(disk) == 0)
        say("w %s ok\n", name);
    else
        say("w %s error %s\n", name, strerror(errno));
    if (disk >= 0)
        close(disk);
}

/* A number from the disk's folder in sysfs, "?" if there is none. */
static void print_property(const char *name, const char *file)
{
    char path[300], text[64];
    snprintf(path, sizeof path, "/sys/block/%s/%s", name, file);
    printf(" %s", read_file(path, text, sizeof text) > 0 ? text : "?");
}

static void show_queue(const char *name)
{
    char path[300];
    int queues = 0;
    printf("q %s", name);
    print_property(name, "queue/logical_block_size");
    print_property(name, "queue/physical_block_size");
    print_property(name, "ro");
    snprintf(path, sizeof path, "/sys/block/%s/mq", name);
    DIR *folder = opendir(path);
    struct dirent *entry;
    while (folder && (entry = readdir(folder)))
        queues += entry->d_name[0] != '.';
    if (folder)
        closedir(folder);
    say(" %d\n", queues);
}

static void obey(char *line)
{
    char name[64];
    long long offset;
    size_t length;
    int text_at = 0;
    if (sscanf(line, "r %63s %lld %zu", name, &offset, &length) == 3 && offset >= 0 && length <= LENGTH_MAX) {
        read_disk(name, offset, length);
    } else if (sscanf(line, "w %63s %lld %n", name, &offset, &text_at) == 2 && offset >= 0 && text_at > 0 &&
               line[text_at] && strlen(line + text_at) <= LENGTH_MAX) {
        write_disk(name, offset, line + text_at);
    } else if (sscanf(line, "q %63s", name) == 1) {
        show_queue(name);
    } else if (!strcmp(line, "ls")) {
        list_disks();
    } else if (!strcmp(line, "off")) {
        sync();
        reboot(RB_POWER_OFF);
    } else if (line[0]) {
        say("? %s\n", line);
    }
}

/* One kernel uevent: "ACTION@PATH", then KEY=VALUE strings, each terminated. */
static void hear_uevent(int socket)
{
    char message[8192];
    ssize_t length = recv(socket, message, sizeof message - 1, 0);
    if (length <= 0)
        return;
    message[length] = 0;
    const char *name = "", *subsystem = "", *type = "";
    for (char *field = message; field < message + length; field += strlen(field) + 1) {
        if (!strncmp(field, "DEVNAME=", 8))
            name = field + 8;
        else if (!strncmp(field, "SUBSYSTEM=", 10))
            subsystem = field + 10;
        else if (!strncmp(field, "DEVTYPE=", 8))
            type = field + 8;
    }
    if (!strcmp(subsystem, "virtio-ports") && !strncmp(message, "add@", 4)) {
        char path[300];
        snprintf(path, sizeof path, "/dev/%s", name);
        agent = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    }
    if (strcmp(subsystem, "block") || strcmp(type, "disk"))
        return;
    if (!strncmp(message, "add@", 4)) {
        show_disk(name);
    } else if (!strncmp(message, "remove@", 7)) {
        say("- %s\n", name);
    } else if (!strncmp(message, "change@", 7)) {
        char sectors[64];
        sectors_of(name, sectors, sizeof sectors);
        say("= %s %s\n", name, sectors);
    }
}

/* The power button: off, as a machine that is asked to shut down. */
static void hear_button(int button)
{
    struct input_event event;
    if (read(button, &event, sizeof event) == sizeof event && event.type == EV_KEY && event.code == KEY_POWER && event.value == 1) {
        sync();
        reboot(RB_POWER_OFF);
    }
}

static int open_button(void)
{
    char path[64], name[64];
    for (int number = 0; number < 8; number++) {
        snprintf(path, sizeof path, "/sys/class/input/event%d/device/name", number);
        if (read_file(path, name, sizeof name) == 0 || strcmp(name, "Power Button"))
            continue;
        snprintf(path, sizeof path, "/dev/input/event%d", number);
        return open(path, O_RDONLY | O_CLOEXEC);
    }
    return -1;
}

static void hear_serial_line(void)
{
    static char line[LINE_MAX_BYTES];
    static size_t used;
    char bytes[256];
    ssize_t length = read(0, bytes, sizeof bytes);
    for (ssize_t i = 0; i < length; i++) {
        if (bytes[i] == '\r' || bytes[i] == '\n') {
            line[used] = 0;
            used = 0;
            obey(line);
        } else if (used < sizeof line - 1) {
            line[used++] = bytes[i];
        }
    }
}

/* The agent's protocol is a line of JSON for a line of JSON; "sync" gives back its number, after a byte 0xff where that is asked for. */
static void answer_agent(const char *line)
{
    char reply[64];
    const char *number = strstr(line, "\"id\"");
    if (strstr(line, "guest-sync")) {
        snprintf(reply, sizeof reply, "%s{\"return\": %lld}\n", strstr(line, "delimited") ? "\xff" : "",
                 number ? atoll(number + strcspn(number, "0123456789")) : 0);
    } else if (strstr(line, "guest-fsfreeze-status")) {
        snprintf(reply, sizeof reply, "{\"return\": \"%s\"}\n", frozen ? "frozen" : "thawed");
    } else if (strstr(line, "guest-fsfreeze-freeze") || strstr(line, "guest-fsfreeze-thaw")) {
        int freezes = strstr(line, "freeze-freeze") != NULL;
        if (frozen != freezes)
            say(freezes ? "FROZEN\n" : "THAWED\n");
        snprintf(reply, sizeof reply, "{\"return\": %d}\n", frozen != freezes);
        frozen = freezes;
    } else {
        snprintf(reply, sizeof reply, "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no\"}}\n");
    }
    if (write(agent, reply, strlen(reply)) < 0)
        say("agent: %s\n", strerror(errno));
}

static void hear_agent(void)
{
    static char line[1024];
    static size_t used;
    char bytes[256];
    ssize_t length = read(agent, bytes, sizeof bytes);
    if (length <= 0)
        usleep(50000); /* nobody is at the other end, and nobody tells when that changes */
    for (ssize_t i = 0; i < length; i++) {
        if (bytes[i] == '\n') {
            line[used] = 0;
            used = 0;
            answer_agent(line);
        } else if (used < sizeof line - 1) {
            line[used++] = bytes[i];
        }
    }
}

static void take_serial_line(void)
{
    int line = open("/dev/ttyS0", O_RDWR | O_NOCTTY);
    if (line < 0)
        return;
    struct termios settings;
    tcgetattr(line, &settings);
    cfmakeraw(&settings);
    settings.c_oflag |= OPOST | ONLCR;
    tcsetattr(line, TCSANOW, &settings);
    dup2(line, 0);
    dup2(line, 1);
    dup2(line, 2);
}

static void load_modules(void)
{
    char path[512];
    FILE *list = fopen("/modules", "r");
    while (list && fgets(path, sizeof path, list)) {
        path[strcspn(path, "\n")] = 0;
        int module = open(path, O_RDONLY | O_CLOEXEC);
        if (module < 0 || syscall(SYS_finit_module, module, "", 0))
            say("module %s: %s\n", path, strerror(errno));
        if (module >= 0)
            close(module);
    }
}

int main(void)
{
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    take_serial_line();

    int uevents = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK, .nl_groups = 1};
    bind(uevents, (struct sockaddr *)&kernel, sizeof kernel); /* before the modules: no disk comes unheard */
    load_modules();

    char uptime[64];
    read_file("/proc/uptime", uptime, sizeof uptime);
    say("READY %s\n", uptime);

    /* poll passes over one that is not there. */
    int button = open_button();
    for (;;) {
        struct pollfd sources[4] = {{.fd = uevents, .events = POLLIN},
                                    {.fd = frozen ? -1 : 0, .events = POLLIN},
                                    {.fd = agent, .events = POLLIN},
                                    {.fd = button, .events = POLLIN}};
        if (poll(sources, 4, -1) < 0)
            continue;
        if (sources[0].revents)
            hear_uevent(uevents);
        if (sources[1].revents)
            hear_serial_line();
        if (sources[2].revents)
            hear_agent();
        if (sources[3].revents)
            hear_button(button);
    }
}
