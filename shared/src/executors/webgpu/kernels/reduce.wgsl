// One value from those of a workgroup's lanes, in a tree. The kernel defines what a lane holds, `Value`, and how two values become one,
// `combine`.

const LANES = 64u;
var<workgroup> scratch: array<Value, LANES>;

// Called by all lanes, once.
fn reduce(lane: u32, own: Value) -> Value {
    scratch[lane] = own;
    workgroupBarrier();
    for (var stride = LANES / 2u; stride > 0u; stride /= 2u) {
        if lane < stride {
            scratch[lane] = combine(scratch[lane], scratch[lane + stride]);
        }
        workgroupBarrier();
    }
    return scratch[0];
}

