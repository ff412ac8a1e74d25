// Looks names up by Node and prints for each: name, microseconds, addresses. `lookup` goes by the C library, `resolve` by
// c-ares, which knows no search list. From a resolver's third answer on c-ares has less patience than it is told to have
// (a second here), which a busy machine would try: so each name has a resolver of its own.
const { lookup, Resolver } = require("dns").promises;

const [how, ...names] = process.argv.slice(2);
const ways = {
    lookup: async (name) => (await lookup(name, { all: true })).map((found) => found.address),
    resolve: async (name) => {
        const resolver = new Resolver({ timeout: 5000, tries: 1 });
        const whole = `${name}.svc.cluster.local`;
        return (await Promise.all([resolver.resolve4(whole), resolver.resolve6(whole)])).flat();
    },
};

(async () => {
    for (const name of names) {
        const start = process.hrtime.bigint();
        const found = await ways[how](name).catch((error) => [error.code]);
        const micros = (process.hrtime.bigint() - start) / 1000n;
        console.log([name, micros, ...found].join(" "));
    }
})();
