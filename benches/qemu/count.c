/* A plugin for qemu-user that counts the instructions a program executes and writes "instructions N" to stderr at its end.
 *
 *   cc -shared -fPIC -O2 -DVERSION=1 count.c -o count.so
 *   qemu-arm -plugin ./count.so PROGRAM
 *
 * QEMU translates a program block by block; each block is told of once, with its length, and then every time it is entered. A
 * count says nothing about caches, memory or branches: two builds can be compared by it, a processor's speed cannot be told.
 *
 * Debian has no package with qemu-plugin.h, so what is used of it is declared here; it is the same in versions 1 (QEMU 4.2 to 8.1)
 * to 5 (QEMU 10). QEMU refuses a plugin of a version it does not know, so VERSION is tried out by whoever builds this.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#define PUBLIC __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS = 0 };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*cb)(unsigned vcpu, void *data),
                                          enum qemu_plugin_cb_flags flags, void *data);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, void *data), void *data);

PUBLIC int qemu_plugin_version = VERSION;

static uint64_t executed;

static void entered(unsigned vcpu, void *instructions)
{
    (void)vcpu;
    __atomic_fetch_add(&executed, (uintptr_t)instructions, __ATOMIC_RELAXED);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, entered, QEMU_PLUGIN_CB_NO_REGS, (void *)(uintptr_t)qemu_plugin_tb_n_insns(tb));
}

static void ended(qemu_plugin_id_t id, void *data)
{
    (void)id;
    (void)data;
    fprintf(stderr, "instructions %" PRIu64 "\n", executed);
}

PUBLIC int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
