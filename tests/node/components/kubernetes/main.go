// Command kube is a one-binary Kubernetes control plane and kubelet for the
// node tests: `kube <component> [flags]`. One binary instead of four because
// linking is what a small machine spends its time on, and the four share
// nearly all their packages.
//
// No component is changed: each subcommand is the upstream cobra command, and
// etcd is the upstream server embedded with its fsync off, since a test's
// cluster does not outlive its directory.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: kube etcd|kube-apiserver|kube-scheduler|kubelet [flags]")
		os.Exit(2)
	}
	component := os.Args[1]
	// The upstream commands parse os.Args themselves.
	os.Args = os.Args[1:]

	var command *cobra.Command
	switch component {
	case "etcd":
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err := runEtcd(ctx, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "etcd:", err)
			os.Exit(1)
		}
		return
	case "kube-apiserver":
		command = apiserver.NewAPIServerCommand()
	case "kube-scheduler":
		command = scheduler.NewSchedulerCommand()
	case "kubelet":
		command = kubelet.NewKubeletCommand(context.Background())
	default:
		fmt.Fprintln(os.Stderr, "kube: unknown component", component)
		os.Exit(2)
	}
	os.Exit(cli.Run(command))
}
