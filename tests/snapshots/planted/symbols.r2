fs symbols
f sym.fixed_percpu_data = 0x0000000000000000
f sym.cpu_debug_store = 0x0000000000001000
f sym._text = 0xffffffff9fa00000
f sym._stext = 0xffffffff9fa00000
f sym.init = 0xffffffff9fa00040
f sym.init = 0xffffffff9fa00100
f sym.a_rather_long_name_that_takes_more_than_a_few_lanes_to_copy = 0xffffffff9fa00200
f sym._end = 0xffffffffa2000000
f sym.xfs_init = 0xffffffffc0001000
f sym.na_x22me_x0a_x80 = 0xffffffffc0001010
