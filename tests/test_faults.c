// What a run does when a disk fails or fills up, a folder cannot be written, two runs meet, or a signal comes.
// FAULTS=all (make test-faults): every write, sync, close and rename of a run fails once; without it a part of them.
#include "small_run.h"

#include "../model/checkpoint.h"
#include "../model/peft.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>

static char shim[PATH_MAX];                                // the library of faults/faults.c
static bool all;

// The run that is disturbed: two checkpoints, of which one stays, and evaluations between and after them. Then the same
// of an adapter (adapter_of).
static const char RUN[] = "%s --output_dir=%s --max_steps=20 --save_steps=10 --save_total_limit=1 --logging_steps=3"
                          " --eval_steps=7 --n_threads=1 --report_to=tensorboard %s %s";
static const char *of_adapter = "";

static const char *output_of(const char *dir, const char *arguments)
{
    static char text[1024];
    snprintf(text, sizeof text, RUN, temp_path("config.json"), temp_path(dir), of_adapter, arguments);
    return text;
}

// The number of the newest checkpoint of a folder; -1 if there is none.
static int newest(const char *dir)
{
    int n = -1;
    for (int i = 0; i <= 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "checkpoint-%d", i);
        if (file_exists(in_output(dir, name))) n = i;
    }
    return n;
}

static const char *go_on(const char *dir)
{
    return newest(dir) >= 0 ? "--resume_from_checkpoint=latest" : "--overwrite_output_dir=true";
}

// Is the model or the adapter in this folder whole?
static bool load(const char *dir)
{
    Model m;
    Err e;
    bool ok = checkpoint_load(&m, *of_adapter ? temp_path("base.bin") : in_output(dir, "model.bin"), &e) &&
              (!*of_adapter || adapter_load(&m, temp_path(dir), false, &e));
    model_free(&m);
    return CHECK_MSG(ok, "%s", e.text);
}

static void copy(const char *from, const char *to)
{
    Buf command = {0};
    if (file_exists(temp_path(to))) remove_tree(temp_path(to));
    buf_addf(&command, "cp -r %s %s", temp_path(from), temp_path(to));
    CHECK(system(command.data) == 0);
    buf_free(&command);
}

static bool has_unfinished(const char *path)
{
    bool found = false;
    DIR *dir = opendir(path);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        char *child = path_join(path, d->d_name);
        found |= strstr(d->d_name, ".tmp") || (d->d_name[0] != '.' && file_is_dir(child) && has_unfinished(child));
        free(child);
    }
    if (dir) closedir(dir);
    return found;
}

// A run in `dir` ended like the undisturbed one in "straight", and left nothing unfinished.
static void check_recovered(const char *dir)
{
    check_same_run("straight", dir);
    CHECK(file_exists(in_output(dir, "runs/train/events.out.tfevents.0")));
    CHECK(!has_unfinished(temp_path(dir)));
}

static bool is_one_error(const char *text)
{
    const char *end = strchr(text, '\n');
    return CHECK_MSG(strncmp(text, "train: ", 7) == 0 && end && !end[1], "expected one line of error: %s", text);
}

// ---- faults -------------------------------------------------------------------------------------------------------

// Adds the shell words that make the program's n-th file operation in "out" fail.
static void add_shim(Buf *b, const char *how, int n)
{
    unlink(temp_path("faults"));
    buf_addf(b, "export ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD=%s FAULT_DIR=%s FAULT_LOG=%s"
             " FAULT_AT=%d FAULT_HOW=%s; exec ", shim, temp_path("out"), temp_path("faults"), n, how);
}

// Such a run; "out" begins as a copy of "before". Returns how many file operations it did. `path`: the file of the one
// that failed, "" if none.
static int run_with_fault(const char *how, int n, char path[512])
{
    Buf before = {0};
    char line[2048];
    int count = 0;
    copy("before", "out");
    add_shim(&before, how, n);
    snprintf(line, sizeof line, "%s >/dev/null", output_of("out", "--overwrite_output_dir=true"));
    int status = run_with(before.data, line);
    buf_free(&before);
    *path = 0;
    FILE *f = fopen(temp_path("faults"), "r");
    while (f && fgets(line, sizeof line, f)) {
        bool failed = strncmp(line, "fails ", 6) == 0;
        if (failed && !*path) snprintf(path, 512, "%.500s", strtok(line + 6, "\n"));
        count += !failed;
    }
    if (f) fclose(f);
    int want = *path && strcmp(how, "short") != 0;
    CHECK_MSG(status == want, "%s %d at %s: status %d: %s", how, n, path, status, output);
    return count;
}

// The error names the file and the reason, the old model or the new one is whole, and the next run ends as if nothing
// had happened.
static void check_fault(const char *how, const char *path)
{
    const char *reason = strerror(strcmp(how, "EIO") == 0 ? EIO : ENOSPC);
    char name[512];
    snprintf(name, sizeof name, "%s", path);
    size_t folder = (size_t)(strrchr(name, '/') + 1 - name), length = unfinished_name_length(name + folder);
    if (length) name[folder + length] = 0;                 // errors give the final name
    is_one_error(output);
    CHECK_MSG(strstr(output, name) && strstr(output, reason), "%s at %s: %s", how, path, output);
    load("out");
    CHECK(same_files(in_output("out", weights), in_output("before", weights)) ||
          same_files(in_output("out", weights), in_output("straight", weights)));
    CHECK_MSG(run("%s", output_of("out", go_on("out"))) == 0, "after %s at %s: %s", how, path, output);
    check_recovered("out");
}

static void test_faults(void)
{
    static const char *const hows[] = {"EIO", "ENOSPC"};
    char path[512];
    int n_faults = 0;
#ifndef __linux__
    SKIP("faults are injected on Linux only");
#endif
    CHECK_MSG(run("%s", output_of("before", "--seed=1 --max_steps=2 --save_steps=null")) == 0, "%s", output);
    int count = run_with_fault("EIO", 0, path);
    CHECK_MSG(count > 100, "%d", count);
    check_recovered("out");
    for (int h = 0; h < 2; h++)
        for (int n = all ? 1 : 1 + 5 * h; n <= count; n += all ? 1 : 16) {
            run_with_fault(hows[h], n, path);
            CHECK(*path || h > 0);                         // after the last write a full disk makes nothing fail
            n_faults += *path != 0;
            if (*path) check_fault(hows[h], path);
        }
    run_with_fault("short", 1, path);                      // every write does half; a second one does the rest
    CHECK(*path);
    check_recovered("out");
    printf("     %d faults\n", n_faults);
}

// An export to a .gguf that fails leaves nothing behind, or (at its last operations, with all written) the whole file.
static void test_export_to_gguf(void)
{
    static const char *const hows[] = {"EIO", "ENOSPC"};
    int n_faults = 0;
#ifndef __linux__
    SKIP("faults are injected on Linux only");
#endif
    CHECK_MSG(run("export %s %s", in_output("straight", "model.bin"), temp_path("whole.gguf")) == 0, "%s", output);
    for (int h = 0; h < 2; h++)
        for (int n = 1; n < 100; n++) {
            Buf before = {0};
            char arguments[512];
            if (file_exists(temp_path("out"))) remove_tree(temp_path("out"));
            mkdir(temp_path("out"), 0777);
            add_shim(&before, hows[h], n);
            snprintf(arguments, sizeof arguments, "export %s %s", in_output("straight", "model.bin"),
                     in_output("out", "m.gguf"));
            int status = run_with(before.data, arguments);
            buf_free(&before);
            CHECK(!has_unfinished(temp_path("out")));
            bool there = file_exists(in_output("out", "m.gguf"));
            CHECK_MSG(!there || same_files(in_output("out", "m.gguf"), temp_path("whole.gguf")), "%s %d", hows[h], n);
            if (status == 0) break;
            CHECK_MSG(strstr(output, "out/m.gguf: ") || strstr(output, "/out: "), "%s %d: %s", hows[h], n, output);
            is_one_error(output);
            n_faults++;
        }
    CHECK_MSG(n_faults > 6, "%d", n_faults);
    printf("     %d faults\n", n_faults);
}

// ---- disks --------------------------------------------------------------------------------------------------------

// A command that lets its child mount a file system. The mount ends with it. NULL if that is not allowed here.
static const char *mounting(void)
{
    static const char *const ways[] = {"unshare -m", "unshare -rm"};
    mkdir(temp_path("disk"), 0777);
    for (size_t i = 0; i < 2; i++) {
        Buf command = {0};
        buf_addf(&command, "%s mount -t tmpfs none %s >/dev/null 2>&1", ways[i], temp_path("disk"));
        int status = system(command.data);
        buf_free(&command);
        if (status == 0) return ways[i];
    }
    return NULL;
}

static int run_on_disk(const char *size)
{
    const char *mounts = mounting();
    Buf before = {0};
    char arguments[2048];
    buf_addf(&before, "%s tests/faults/disk.sh %s %s %s", mounts, size, temp_path("disk"), temp_path("result"));
    snprintf(arguments, sizeof arguments, "%s", output_of("disk/out", "--save_total_limit=null"));
    int status = run_with(before.data, arguments);
    buf_free(&before);
    return status;
}

static void test_full_disk(void)
{
    static const char *const places[] = {"/log.jsonl: ", "/checkpoint-10.tmp.", "/checkpoint-20.tmp.", "/model.tmp.",
                                         "/report.html: "};
    int n_full[5] = {0}, n = 0;
    bool fits = false;
    if (!mounting()) SKIP("mounting a file system is not permitted");
    for (int kb = 4; !fits && kb < 2000; kb += all ? 4 : 76) {
        char size[16];
        snprintf(size, sizeof size, "%d", kb);
        CHECK_MSG(run_on_disk(size) == 0, "%d kB: %s", kb, output);
        char *status = strstr(output, "status "), *again = strstr(output, "again ");
        if (!CHECK_MSG(status && again, "%s", output)) return;
        fits = strncmp(status, "status 0", 8) == 0;
        CHECK_MSG(strncmp(again, "again 0", 7) == 0, "%d kB: %s", kb, output);
        check_recovered("result");
        remove_tree(temp_path("result"));
        if (fits) break;
        CHECK_MSG(strncmp(status, "status 1", 8) == 0, "%d kB: %s", kb, output);
        *status = 0;
        is_one_error(output);
        CHECK_MSG(strstr(output, strerror(ENOSPC)), "%d kB: %s", kb, output);
        for (size_t i = 0; i < 5; i++) n_full[i] += strstr(output, places[i]) != NULL;
        n++;
    }
    CHECK(fits);
    for (size_t i = 0; i < 5 && all; i++)
        CHECK_MSG(n_full[i], "never full at %s", places[i]);
    printf("     %d full disks: %d at the log, %d at a checkpoint, %d at the model, %d at the page\n", n, n_full[0],
           n_full[1] + n_full[2], n_full[3], n_full[4]);
}

// A folder that cannot be written is refused before the data is read.
static void test_read_only(void)
{
    if (!mounting()) SKIP("mounting a file system is not permitted");
    CHECK(run_on_disk("ro") == 0);
    char *status = strstr(output, "status 1");
    if (!CHECK_MSG(status, "%s", output)) return;
    *status = 0;
    is_one_error(output);
    CHECK_MSG(strstr(output, "train: output_dir: ") && strstr(output, strerror(EROFS)), "%s", output);
}

// When standard output is full, the exit status says so.
static void test_full_output(void)
{
    if (access("/dev/full", W_OK) != 0) SKIP("there is no /dev/full");
    CHECK(run("inspect %s >/dev/full", temp_path("config.json")) == 1);
    is_one_error(output);
    CHECK(strstr(output, "standard output: cannot write: No space left"));
}

// ---- two runs, and signals ----------------------------------------------------------------------------------------

// Starts "<before> $TRAIN <arguments>" as another process.
static pid_t start(const char *before, const char *arguments)
{
    Buf command = {0};
    buf_addf(&command, "%s %s %s >/dev/null 2>&1", before, program(), arguments);
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", command.data, (char *)NULL);
        _exit(127);
    }
    buf_free(&command);
    return pid;
}

// Waits until the file holds the text.
static bool wait_for(const char *path, const char *text)
{
    for (int i = 0; i < 6000; i++) {
        File f = {0};
        Err e;
        bool there = file_exists(path) && file_map(&f, path, &e) && mem_find(f.data, f.size, text, strlen(text));
        file_unmap(&f);
        if (there) return true;
        nap();
    }
    return CHECK_MSG(false, "%s never held \"%s\"", path, text);
}

static int ended(pid_t pid)
{
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// A second run into a folder is refused, whatever it wants to do; one that only reads is not. The lock ends with its
// holder.
static void test_lock(void)
{
    static const char *const commands[] = {"", "--overwrite_output_dir=true", "--resume_from_checkpoint=latest"};
    static const char refused[] = "another run is writing into it";
    char holder[64];
    copy("straight", "two");
    pid_t first = start("exec", output_of("two", "--max_steps=100000000 --save_steps=null"
                                                 " --overwrite_output_dir=true"));
    if (!wait_for(in_output("two", "log.jsonl"), quoted("'step':21,"))) return;
    snprintf(holder, sizeof holder, "%s: process %ld\n", refused, (long)first);
    for (int compare = 0; compare < 2; compare++)
        for (size_t i = 0; i < 3; i++) {
            CHECK(run("%s %s", compare ? "compare" : "", output_of("two", commands[i])) == 1);
            is_one_error(output);
            CHECK_MSG(strstr(output, access("/proc/locks", R_OK) == 0 ? holder : refused), "%s", output);
        }
    CHECK(run("sample %s --max_new_tokens=1", in_output("two", "model.bin")) == 0);
    CHECK(run("eval %s --output_dir=%s", temp_path("config.json"), temp_path("two")) == 0);
    CHECK(kill(first, SIGKILL) == 0 && ended(first) == -SIGKILL);
    CHECK_MSG(run("%s", output_of("two", "--overwrite_output_dir=true")) == 0, "%s", output);
    check_recovered("two");

    // A comparison holds its own folder and that of its current run.
    Buf compare = {0};
    buf_addf(&compare, "compare %s", output_of("arms", "--max_steps=100000000 --save_steps=null"));
    first = start("exec", compare.data);
    buf_free(&compare);
    if (!wait_for(in_output("arms/weight-0/seed-42", "log.jsonl"), quoted("'step':3,"))) return;
    CHECK(run("%s", output_of("arms", "")) == 1 && strstr(output, refused));
    CHECK(run("%s", output_of("arms/weight-0/seed-42", commands[1])) == 1 && strstr(output, refused));
    CHECK(kill(first, SIGKILL) == 0 && ended(first) == -SIGKILL);
}

// A folder that holds a model stays as it is without overwrite_output_dir. With it, nothing of the old run is left that
// looks like the new one's, and the files of others stay.
static void test_overwrite(void)
{
    static const char *const foreign[] = {"notes.txt", "notes.txt.tmp.12", "checkpoint-best", "checkpoint-7"};
    static const char *const unfinished[] = {"model.tmp.12", "checkpoint-15.tmp.12", "report.html.tmp.12",
                                             "train_config.json.tmp.12"};
    Err e;
    copy("straight", "old");
    CHECK(run("%s", output_of("old", "--seed=1")) == 1);
    CHECK(strstr(output, "holds a model, checkpoints or a comparison already"));
    CHECK(strstr(output, " or resume_from_checkpoint=latest"));
    CHECK(run("compare %s", output_of("old", "")) == 1);
    CHECK(strstr(output, "holds a model, checkpoints or a comparison already"));
    CHECK(!strstr(output, "resume_from_checkpoint"));      // a comparison cannot resume
    CHECK(run("export %s %s", in_output("straight", "model.bin"), temp_path("old")) == 1);
    CHECK(strstr(output, "there is a model already"));
    check_recovered("old");

    for (size_t i = 0; i < 2; i++) {
        CHECK(file_put(in_output("old", foreign[i]), "x", 1, &e));
        CHECK(dir_make(in_output("old", foreign[i + 2]), &e));
        CHECK(dir_make(in_output("old", unfinished[i]), &e));
        CHECK(file_put(in_output("old", unfinished[i + 2]), "x", 1, &e));
    }
    CHECK(file_put(in_output("old", "checkpoint-7/pytorch_model.bin"), "x", 1, &e));
    CHECK(file_put(in_output("old", "model.tmp.12/model.bin"), "x", 1, &e));
    CHECK(newest("old") == 20);
    CHECK_MSG(run("%s", output_of("old", "--max_steps=3 --overwrite_output_dir=true")) == 0, "%s", output);
    CHECK(newest("old") == 7 && file_exists(in_output("old", "checkpoint-7/pytorch_model.bin")));     // not ours
    for (size_t i = 0; i < 4; i++) {
        CHECK(file_exists(in_output("old", foreign[i])));
        CHECK(!file_exists(in_output("old", unfinished[i])));
    }
    CHECK(!same_files(in_output("old", "model.bin"), in_output("straight", "model.bin")));
}

// A run that goes back to an older checkpoint removes the later ones. It cuts the log back too.
static void test_going_back(void)
{
    CHECK_MSG(run("%s", output_of("back", "--save_steps=5 --save_total_limit=null")) == 0, "%s", output);
    char arguments[512];
    snprintf(arguments, sizeof arguments, "--save_steps=null --resume_from_checkpoint=%s",
             in_output("back", "checkpoint-5"));
    CHECK_MSG(run("%s", output_of("back", arguments)) == 0, "%s", output);
    CHECK(newest("back") == 5);
    check_recovered("back");
}

// The first signal lets the current step and the saving finish; the exit status names it. A second one does not wait.
static void test_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        pid_t pid = start("exec", output_of("stopped", "--max_steps=100000000 --save_steps=50000000"));
        if (!wait_for(in_output("stopped", "log.jsonl"), quoted("'step':3,"))) return;
        CHECK(kill(pid, signals[i]) == 0 && ended(pid) == 128 + signals[i]);
        load("stopped");
        CHECK(wait_for(in_output("stopped", "log.jsonl"), "train_runtime"));
        CHECK(!has_unfinished(temp_path("stopped")));
        remove_tree(temp_path("stopped"));
    }
#ifdef __linux__
    char path[512];
    Buf before = {0};
    int count = run_with_fault("wait", 0, path);
    copy("before", "out");
    add_shim(&before, "wait", count / 2);
    pid_t pid = start(before.data, output_of("out", "--overwrite_output_dir=true"));
    buf_free(&before);
    if (!wait_for(temp_path("faults"), "waits at")) return;
    CHECK(kill(pid, SIGINT) == 0);
    if (!wait_for(temp_path("faults"), "woken at")) return;        // and the run goes on
    CHECK(kill(pid, SIGTERM) == 0 && ended(pid) == 128 + SIGTERM);
    load("out");
    CHECK(run("%s", output_of("out", go_on("out"))) == 0);
    check_recovered("out");
#endif
}

static void test_faults_of_an_adapter(void)
{
    copy("straight/model.bin", "base.bin");
    weights = "adapter_model.safetensors";
    of_adapter = adapter_of(temp_path("base.bin"));
    remove_tree(temp_path("straight"));
    remove_tree(temp_path("before"));
    if (CHECK_MSG(run("%s", output_of("straight", "")) == 0, "%s", output)) test_faults();
    CHECK(!file_exists(in_output("straight", "model.bin")));
}

int main(int argc, char **argv)
{
    (void)argc;
    char *dir = path_dir(argv[0]), *real = realpath(dir, NULL);
    all = getenv("FAULTS") != NULL;
    snprintf(shim, sizeof shim, "%s/faults.so", real ? real : ".");
    temp_begin();
    write_fixture();
    if (CHECK_MSG(run("%s", output_of("straight", "")) == 0, "%s", output)) {
        RUN(test_faults);
        RUN(test_export_to_gguf);
        RUN(test_full_disk);
        RUN(test_read_only);
        RUN(test_full_output);
        RUN(test_lock);
        RUN(test_overwrite);
        RUN(test_going_back);
        RUN(test_signals);
        RUN(test_faults_of_an_adapter);
    }
    temp_end();
    free(dir);
    free(real);
    return check_report();
}
