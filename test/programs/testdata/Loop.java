/** Something to attach a debugger to. */
public class Loop {
    public static void main(String[] args) throws Exception {
        while (true) Thread.sleep(1000);
    }
}
