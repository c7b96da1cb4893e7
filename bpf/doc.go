// Package bpf holds the compiled eBPF programs and the Go types of the structs that
// they share with the agent. All of it is output of bpf2go: change the C sources beside
// it and run `make generate`.
package bpf

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" -type pod -type port_range -type address -type agent_state -type listener_key -type client_key -type original_dst -type peer_key -type peer_name -type socket_info -type flow_key -type host_flow -type inner_flow_key -type path_key -type path -type local_flow_key -type veth -type ends -type redirected Underlane underlane.c
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" -type observed_pod -type observe_wish Observe observe.c
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu" Redirect redirect.c
