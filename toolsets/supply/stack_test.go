package supply

import (
	"testing"

	"github.com/gumshoe-ai/gumshoe/toolsets/supply/sbom"
)

func TestBlamed(t *testing.T) {
	t.Parallel()
	changes := []sbom.Change{
		{Name: "cuda-cudart-12-8", From: "12.8", To: "13.0", How: "newer"}, {Name: "libnccl2", From: "2.27", To: "2.19", How: "older"}, {Name: "torch", From: "2.8", To: "2.9", How: "newer"},
		{Name: "flash-attn", From: "2.8", How: "removed"}, {Name: "vllm", From: "0.14", To: "0.15", How: "newer"}, {Name: "uv", From: "1", To: "2", How: "newer"}, {Name: "brandnew", To: "1", How: "added"},
	}
	for line, want := range map[string]string{
		"ImportError: /x/torch/lib/libtorch_cuda.so: undefined symbol: ncclCommWindowRegister":    "libnccl2",
		"ImportError: libcudart.so.12: cannot open shared object file: No such file or directory": "cuda-cudart-12-8",
		"ModuleNotFoundError: No module named 'flash_attn'":                                       "flash-attn",
		"vllm: error: unrecognized arguments: --swap-space 8":                                     "vllm",
		"AttributeError: module 'torch' has no attribute 'compile2'":                              "torch",
		"KeyError: 'MODEL_BUCKET'": "",
		"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB":                 "",
		"NCCL error: remote process exited or there was a network error":                      "",
		`  File "/usr/lib/python3/dist-packages/torch/serve.py", line 3: unsupported operand`: "",
		"ModuleNotFoundError: No module named 'brandnew'":                                     "",
		"error: unsupported uv":      "",
		"storchaka is not supported": "",
	} {
		x, _, ok := blamed(changes, "INFO torch 2.9 loaded\n"+line+"\n")
		if x.Name != want || ok != (want != "") {
			t.Errorf("%s: blames %q, want %q", line, x.Name, want)
		}
	}
}

func TestStem(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"libnccl2": "nccl", "nvidia-nccl-cu12": "nccl", "cuda-cudart-12-8": "cudart", "nvidia-cuda-runtime-cu12": "cudart", "libcudnn9-cuda-12": "cudnn", "torch": "torch", "flash_attn": "flash-attn", "python3-numpy": "numpy", "libc6": "c",
	} {
		if got := stem(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestPinnedAndDigest(t *testing.T) {
	t.Parallel()
	d := "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for in, want := range map[string]string{"docker-pullable://x/y@" + d: d, "x/y@" + d: d, d: "", "": "", "x@sha256:12": ""} {
		if got := digestOf(in); got != want {
			t.Errorf("%s: %q", in, got)
		}
	}
	for in, want := range map[string]string{"r:5000/a/b:1": "r:5000/a/b@" + d, "r:5000/a/b": "r:5000/a/b@" + d, "a@sha256:old": "a@" + d} {
		if got := pinned(in, d); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
	if pinned("a:1", "") != "a:1" {
		t.Error("no digest is known")
	}
}
